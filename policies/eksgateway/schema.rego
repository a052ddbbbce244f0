# METADATA
# title: The keys and values that grants and freezes may have
# description: Generated from policies/schemas/data.json by `make policy`. Do not edit.
package eksgateway.schema

grant_keys := {"id", "subjects", "groups", "actions", "accounts", "regions", "clusters", "except_clusters", "via", "claims", "from", "until", "windows", "tags", "group_tags", "versions", "older_than", "update_types", "require", "ticket_patterns", "owner", "note"}

freeze_keys := {"id", "clusters", "except_clusters", "accounts", "regions", "tags", "update_types", "from", "until", "windows", "except_groups", "except_subjects", "owner", "note"}

actions := {"cancel", "check", "get", "list", "watch", "history"}

requirements := {"reason", "ticket"}
