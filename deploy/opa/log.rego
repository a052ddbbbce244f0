# Decisions that OPA does not log: the gateway's own questions, several in a second.
package system.log

drop if startswith(input.path, "eksgateway/revision/")

# Readiness decides samples, by this id. Those of calls are UUIDs.
drop if input.input.context.decision_id == "sample"
