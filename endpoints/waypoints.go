package endpoints

import "slices"

// A gateway needs the waypoints of the services that it serves, global or not. waypointUsers counts, for
// each place where a waypoint is found, the global services that use it.
type waypointUsers map[GatewayAddress]int

// place strips what does not matter for finding a waypoint's service.
func (g GatewayAddress) place() GatewayAddress {
	g.Port = 0
	return g
}

// waypointsOf returns where the waypoints of a service are found.
func waypointsOf(s *Service) []GatewayAddress {
	if s == nil || s.Scope != ScopeGlobal {
		return nil
	}
	var all []GatewayAddress
	if s.Waypoint != nil {
		all = append(all, s.Waypoint.place())
	}
	for _, w := range s.WeightedWaypoints {
		all = append(all, w.Destination.place())
	}
	return all
}

// uses reports whether a service is a waypoint that is in use.
func (u waypointUsers) uses(s *Service) bool {
	if u[GatewayAddress{Namespace: s.Namespace, Hostname: s.Hostname}] > 0 {
		return true
	}
	for _, a := range s.Addresses {
		if u[GatewayAddress{Address: a}] > 0 {
			return true
		}
	}
	return false
}

// follow notes that a service uses other waypoints than before, and queues those that came into use or out
// of it.
func (u *update) follow(before, now *Service) {
	users := u.view.waypoints
	for _, w := range waypointsOf(now) {
		users[w]++
		if users[w] == 1 {
			u.enqueue(w)
		}
	}
	for _, w := range waypointsOf(before) {
		users[w]--
		if users[w] == 0 {
			delete(users, w)
			u.enqueue(w)
		}
	}
}

// enqueue queues the service of a waypoint. One that is found by address is looked for among all services,
// which is rare.
func (u *update) enqueue(w GatewayAddress) {
	if u.queue == nil {
		u.queue = make(map[*serviceState]bool)
	}
	if w.Hostname != "" {
		if s := u.mesh.services[ServiceKey(w.Namespace, w.Hostname)]; s != nil {
			u.queue[s] = true
		}
		return
	}
	same := func(a NetworkAddress) bool { return a.Prefix == w.Address.Prefix } // whatever network the view adds
	has := func(c serviceCopy) bool { return slices.ContainsFunc(c.Addresses, same) }
	for _, s := range u.mesh.services {
		if slices.ContainsFunc(s.copies, has) {
			u.queue[s] = true
		}
	}
}
