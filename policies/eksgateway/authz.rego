# METADATA
# title: Authorization of EKS updates
# description: |
#   Decides one question of the gateway by the compiled policy (docs/policy-form.md). Stage "request"
#   has account, region and cluster. Stage "update" also has the tags and the update; it never allows
#   what stage "request" denies. Stage "target" has account and region: may the caller list any
#   clusters there? Every rule on the way to an allow is positive, so that undefined is a denial.
# schemas:
#   - input: schema.input
package eksgateway.authz

import data.eksgateway.granting
import data.eksgateway.reasons
import data.eksgateway.restrictions

# METADATA
# title: The decision
# description: |
#   `rules` are the ids of the grants that allow, or of the grants, denials and freezes that deny.
#   `reasons` are sentences for the caller; a caller without a grant on the cluster gets the default
#   ones. There are at most 100 sentences of 400 characters. `until_edge` lets the gateway remember the
#   decision (docs/policy-engines.md): time matters only where an entry or a window begins or ends, and the
#   update's age only beside `older_than`.
# entrypoint: true
default decision := {
	"allow": false,
	"reasons": ["You have no grant on this cluster."],
	"rules": [],
	"obligations": [],
	"until_edge": true,
}

decision := {
	"allow": true,
	"reasons": [concat("", ["Grant ", id, " allows this."]) | some id in allowing],
	"rules": allowing,
	"obligations": [],
	"until_edge": true,
} if {
	allowed
}

decision := {
	"allow": false,
	"reasons": reasons.reasons,
	"rules": reasons.rules,
	"obligations": [],
	"until_edge": true,
} if {
	count(granting.covering) > 0
	not allowed
}

decision := {
	"allow": false,
	"reasons": ["You have no grant in this account and region."],
	"rules": [],
	"obligations": [],
	"until_edge": true,
} if {
	input.context.stage == "target"
	count(granting.covering) == 0
}

allowing := reasons.first_100(granting.allowing)

default allowed := false

allowed if {
	count(granting.allowing) > 0
	restrictions.undenied
	unfrozen
}

# Freezes apply to cancels only.
unfrozen if input.action.name != "cancel"

unfrozen if restrictions.unfrozen
