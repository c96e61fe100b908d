package mcs_test

import (
	"fmt"
	"time"

	"github.com/eastwest-mesh/eastwest/endpoints/mcs"
)

// Two clusters export a service, and do not agree about its port.
func ExampleMerge() {
	web := func(cluster string, exported int64, port uint16) mcs.Export {
		return mcs.Export{Cluster: cluster, Created: time.Unix(exported, 0), Service: &mcs.Service{Ports: []mcs.Port{{Name: "http", Port: port}}}}
	}
	imported, conditions := mcs.Merge("shop", "web", []mcs.Export{web("west", 200, 8080), web("east", 100, 80)})
	fmt.Println(imported.Fact().Hostname, imported.Ports, imported.Clusters)
	for _, c := range conditions["west"] {
		fmt.Println(c.Type, c.Status, c.Reason)
	}
	// Output:
	// web.shop.svc.clusterset.local [http 80/TCP] [east west]
	// Valid True Valid
	// Ready True Exported
	// Conflict True PortConflict
}
