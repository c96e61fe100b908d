package lb

import (
	"context"
	"errors"
	"strconv"
	"time"
)

// Outlier says when a target that fails is ejected: used no more, for a while.
// If all targets that could be used are ejected, they are used all the same.
type Outlier struct {
	// Failures in a row that eject a target. Default 0: never.
	Failures int

	// Ejection is how long the first ejection of a target lasts; the n-th in a
	// row lasts n times that. Default 0: 30 s.
	Ejection time.Duration

	// MaxEjection is the longest ejection. A target that was not ejected for
	// as long starts anew. Default 0: 5 minutes.
	MaxEjection time.Duration

	// MaxPercent of the targets may be ejected at a time, but one always may
	// if there are others. Default 0: 50.
	MaxPercent int
}

func (o Outlier) withDefaults() (Outlier, error) {
	switch {
	case o.Failures < 0:
		return o, &PolicyError{"Outlier.Failures", strconv.Itoa(o.Failures)}
	case o.Ejection < 0:
		return o, &PolicyError{"Outlier.Ejection", o.Ejection.String()}
	case o.MaxEjection < 0:
		return o, &PolicyError{"Outlier.MaxEjection", o.MaxEjection.String()}
	case o.MaxPercent < 0 || o.MaxPercent > 100:
		return o, &PolicyError{"Outlier.MaxPercent", strconv.Itoa(o.MaxPercent)}
	}
	if o.Ejection == 0 {
		o.Ejection = 30 * time.Second
	}
	if o.MaxEjection == 0 {
		o.MaxEjection = 5 * time.Minute
	}
	if o.MaxPercent == 0 {
		o.MaxPercent = 50
	}
	return o, nil
}

// ejection is the last one of a target.
type ejection struct {
	until time.Time
	times int // in a row
}

// observe learns from an outcome.
func (b *Balancer[T]) observe(st *state, err error) {
	switch {
	case b.outlier.Failures == 0 || errors.Is(err, context.Canceled):
	case err == nil:
		if st.failures.Load() != 0 { // spare the cache line
			st.failures.Store(0)
		}
	case st.failures.Add(1) == int64(b.outlier.Failures):
		b.eject(st)
	}
}

// eject takes the target out, if not too many are out already.
func (b *Balancer[T]) eject(st *state) {
	b.mu.Lock()
	defer b.mu.Unlock()
	st.failures.Store(0)
	now := b.now()
	ejected := 0
	for _, other := range b.states {
		if now.Before(other.ejection.until) {
			ejected++
		}
	}
	allowed := max(1, len(b.states)*b.outlier.MaxPercent/100)
	if now.Before(st.ejection.until) || ejected >= min(allowed, len(b.states)-1) {
		return
	}
	e := &st.ejection
	if now.Sub(e.until) >= b.outlier.MaxEjection {
		e.times = 0
	}
	e.times++
	length := b.outlier.MaxEjection
	if e.times <= int(length/b.outlier.Ejection) {
		length = time.Duration(e.times) * b.outlier.Ejection
	}
	e.until = now.Add(length)
	b.rebuild()
}
