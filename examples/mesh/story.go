package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"
)

// What the story is about. A directory given with -config must have these.
const (
	namespace    = "app"
	callerPod    = "client"   // makes the requests, from east
	intruderPod  = "intruder" // may not
	serviceName  = "reviews"  // global, with pods in both clusters
	externalHost = "payments.example.com"
)

const defaultRequests = 1000 // in each step

// A story shows what a world does, step by step.
type story struct {
	world  *world
	report report
	out    io.Writer // where sections are printed as they end

	caller   client
	intruder client
	service  string // full host name of the service
	port     uint16
	count    int // of the requests that a step makes

	// before is called when a step is prepared and before it is judged. Tests
	// break things here.
	before func(ctx context.Context, step string) error
	// leak is called while the requests of the story are judged.
	leak func()
	// attack is what those who must be refused present. Tests arm them with
	// what they lack.
	attack attack
}

// A step changes the world, and then shows and checks what that made of it.
type step struct {
	name    string
	title   string
	prepare func(context.Context) error
	judge   func(context.Context, *section) error
}

func (s *story) steps() []step {
	return []step{
		{"views", "What each cluster sees of the mesh", nil, s.views},
		{"names", "What names mean in east, asked over UDP", nil, s.names},
		{"requests", fmt.Sprintf("%d requests from east, each on a new connection", s.count), s.warmUp, s.requests},
		{"control", "The same payload through the gateway with one hop only", nil, s.control},
		{"prefer-close", "The same with trafficDistribution: PreferClose", s.preferClose, s.requestsStayLocal},
		{"failover", "The same with east's own pods gone", s.removeLocalPods, s.requestsFailOver},
		{"unlabelled", "The same with the label istio.io/global removed", s.removeLabel, s.requestsAreRefused},
		{"refusals", "What must be refused, and is counted where it is", nil, s.refusals},
		{"static", "Control planes stopped, all tunnels closed", s.stopControlPlanes, s.requestsStillWork},
	}
}

// newStory finds in the facts what the story needs.
func newStory(w *world, out io.Writer) (*story, error) {
	s := &story{world: w, out: out, before: func(context.Context, string) error { return nil }, leak: func() {}}
	s.attack = newAttack(w)
	s.count = cmp.Or(w.settings.requests, defaultRequests)
	facts := w.clusters[east].facts
	var err error
	if s.caller, err = w.client(callerPod); err != nil {
		return nil, err
	}
	if s.intruder, err = w.client(intruderPod); err != nil {
		return nil, err
	}
	svc, err := facts.service(namespace, serviceName)
	if err != nil {
		return nil, err
	}
	if _, err := w.clusters[west].facts.service(namespace, serviceName); err != nil {
		return nil, err
	}
	if len(svc.Spec.Ports) == 0 {
		return nil, fmt.Errorf("%s: Service %s/%s has no port", facts.Position(svc), namespace, serviceName)
	}
	s.service = serviceName + "." + namespace + ".svc.cluster.local"
	s.port = uint16(svc.Spec.Ports[0].Port)
	return s, nil
}

// client returns the application in a pod of east.
func (w *world) client(pod string) (client, error) {
	c := w.clusters[east]
	p, err := c.facts.pod(namespace, pod)
	if err != nil {
		return client{}, err
	}
	ip, err := netip.ParseAddr(p.Status.PodIP)
	if err != nil {
		return client{}, fmt.Errorf("%s: Pod %s/%s: status.podIP: %w", c.facts.Position(p), namespace, pod, err)
	}
	return newClient(c.network, ip), nil
}

// tell runs all steps. A step starts from the clusters as they were at the
// beginning. An error means that the story could not be told to its end; what
// did not hold is in the report.
func (s *story) tell(ctx context.Context) error {
	for _, step := range s.steps() {
		sec := s.report.section(step.title)
		err := s.play(ctx, step, sec)
		sec.print(s.out)
		if err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

func (s *story) play(ctx context.Context, step step, sec *section) error {
	if err := s.world.restore(ctx); err != nil {
		return err
	}
	if step.prepare != nil {
		if err := step.prepare(ctx); err != nil {
			return err
		}
	}
	if err := s.before(ctx, step.name); err != nil {
		return err
	}
	s.world.events.reset()
	s.world.tap.reset()
	return step.judge(ctx, sec)
}

// aWhile bounds what may not happen, and shows in what follows if it did not:
// to a part of the time that the story has left.
func aWhile(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(deadline)/3)
}

// url is how an application in the same namespace calls the service.
func (s *story) url() string { return fmt.Sprintf("http://%s.%s:%d/", serviceName, namespace, s.port) }

// problems joins what is wrong into one error, nil if nothing is.
type problems []error

func (p *problems) add(format string, args ...any) { *p = append(*p, fmt.Errorf(format, args...)) }

func (p problems) err() error { return errors.Join(p...) }
