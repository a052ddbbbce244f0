# METADATA
# title: Grants that cover, name the action, and allow
# description: Grants share their conditions, which are evaluated once.
# schemas:
#   - input: schema.input
package eksgateway.granting

import data.eksgateway.conditions
import data.eksgateway.lookup

# METADATA
# description: The grants that name the caller and the cluster, with the names of their conditions.
covering := {id: name |
	lookup.whole
	lookup.exceptions_known
	some id in lookup.ids
	name := data.eksgateway.index.grants[id]
	not data.eksgateway.index.denials[id]
}

# METADATA
# description: Covering grants with the action.
naming_action := {id |
	some id, name in covering
	action_conditions[name]
}

# METADATA
# description: Grants with the action whose conditions hold.
allowing := {id |
	some id, name in covering
	allowing_conditions[name]
}

action_conditions := {name |
	some name in {name | some name in covering}
	input.action.name in data.eksgateway.index.conditions[name].actions
}

allowing_conditions := {name |
	some name in action_conditions
	conditions.hold(name)
}
