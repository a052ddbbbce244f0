# METADATA
# title: Questions and expectations of the Rego's tests
# description: fixtures.yaml has the policies.
package tests.support

import data.eksgateway.authz

# A caller of the platform group cancels, with everything required.
properties := {"account_id": "111122223333", "region": "us-east-1", "cluster": "prod-1"}

update := {"id": "u-1", "type": "VersionRollback", "status": "InProgress", "created_at": null, "age_s": null, "cancellation_status": null}

facts := {"tags": {"environment": "production"}, "cluster_status": "ACTIVE", "version": "1.34", "update": update}

cancel_input := {
	"subject": {
		"type": "jwt",
		"id": "jwt:corp:alice",
		"properties": {"issuer": "https://idp.corp.example", "groups": ["corp:platform"], "via": null, "claims": {}},
	},
	"action": {"name": "cancel", "properties": {"reason": "bad AMI", "ticket": "OPS-12"}},
	"resource": {"type": "eks_cluster", "id": "111122223333/us-east-1/prod-1", "properties": properties},
	"context": {
		"stage": "request",
		"time": "2026-11-10T10:00:00Z",
		"seconds": 1794304800,
		"method": "/eksgateway.v1.UpdateService/CancelUpdate",
		"decision_id": "d-1",
	},
}

update_input := object.union(cancel_input, {
	"resource": {"type": "eks_update", "id": "111122223333/us-east-1/prod-1/u-1", "properties": facts},
	"context": {"stage": "update"},
})

target_input := json.patch(cancel_input, [
	{"op": "replace", "path": "/context/stage", "value": "target"},
	{"op": "replace", "path": "/action/name", "value": "list"},
	{"op": "remove", "path": "/resource/properties/cluster"},
])

change(document, path, value) := json.patch(document, [{"op": "replace", "path": path, "value": value}])

decide(document, index) := decision if {
	decision := authz.decision with input as document with data.eksgateway.index as index
}

denied(decision, rules, reasons) if {
	decision == {"allow": false, "reasons": reasons, "rules": rules, "obligations": [], "until_edge": true}
}

allowed_by(decision, rules) if {
	decision.allow == true
	decision.rules == rules
	decision.obligations == []
	decision.until_edge == true
}

stranger(decision) if denied(decision, [], ["You have no grant on this cluster."])

november := at(cancel_input, "2026-11-22T10:00:00Z")

at(document, moment) := json.patch(document, [
	{"op": "replace", "path": "/context/time", "value": moment},
	{"op": "replace", "path": "/context/seconds", "value": time.parse_rfc3339_ns(moment) / 1000000000},
])

set_tags(tags) := change(update_input, "/resource/properties/tags", tags)
