# METADATA
# title: The keys and values that grants and freezes may have
# description: Generated from policies/schemas/data.json by `make policy`. Do not edit.
package eksgateway.schema

grant_keys := {"id", "subjects", "groups", "actions", "accounts", "regions", "clusters", "via", "tags", "update_types", "require"}

freeze_keys := {"id", "clusters", "accounts", "regions", "from", "until", "except_groups"}

actions := {"cancel", "check", "get", "list", "watch", "history"}

requirements := {"reason", "ticket"}
