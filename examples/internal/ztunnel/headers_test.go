package ztunnel

import (
	"net"
	"testing"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

func TestBaggage(t *testing.T) {
	tests := []struct {
		name     string
		workload endpoints.Workload
		want     string
	}{
		{"all there is", endpoints.Workload{
			Cluster: "east", Namespace: "app", Type: endpoints.CronJob, WorkloadName: "nightly", CanonicalName: "reports", CanonicalRevision: "v2",
			Locality: endpoints.Locality{Region: "eu", Zone: "eu-1", Subzone: "rack"},
		}, "k8s.cluster.name=east,k8s.namespace.name=app,k8s.cronjob.name=nightly,service.name=reports,service.version=v2,cloud.region=eu,cloud.availability_zone=eu-1"},
		{"nothing", endpoints.Workload{}, ""},
		{"what is empty is left out", endpoints.Workload{Namespace: "app", Type: endpoints.Pod, WorkloadName: "one"}, "k8s.namespace.name=app,k8s.pod.name=one"},
		{"and so is what would mean something else", endpoints.Workload{
			Cluster: "east,k8s.namespace.name=evil", Namespace: "a=b", Type: endpoints.Job, WorkloadName: "job", CanonicalName: "x\r\ny", CanonicalRevision: "\u00e9",
		}, "k8s.job.name=job"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := baggage(&tt.workload); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestForwarded(t *testing.T) {
	client := &net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 1234}
	if got := streamHeader(&endpoints.Workload{}, client, nil).Get("forwarded"); got != `for="[2001:db8::1]:1234"` {
		t.Errorf("got %s", got)
	}
	a, b := streamHeader(&endpoints.Workload{}, client, nil), streamHeader(&endpoints.Workload{}, client, nil)
	if a.Get("traceparent") == b.Get("traceparent") {
		t.Error("two connections have one trace")
	}
}
