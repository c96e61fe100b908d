package endpoints

import (
	"net/netip"
	"reflect"
	"testing"
	"time"
)

// TestEqualSeesEveryField changes one field at a time, by reflection, so that a field added later cannot be
// forgotten.
func TestEqualSeesEveryField(t *testing.T) {
	t.Run("Service", func(t *testing.T) { everyField(t, (*Service).Equal) })
	t.Run("Workload", func(t *testing.T) { everyField(t, (*Workload).Equal) })
	t.Run("Gateway", func(t *testing.T) { everyField(t, (*Gateway).Equal) })
	t.Run("LoadBalancing", func(t *testing.T) { everyField(t, (*LoadBalancing).equal) })
	t.Run("ServicePorts", func(t *testing.T) {
		everyField(t, func(a, b *ServicePorts) bool { return a.equal(*b) })
	})
	t.Run("Extension", func(t *testing.T) {
		everyField(t, func(a, b *Extension) bool { return a.equal(*b) })
	})
}

func everyField[T any](t *testing.T, equal func(a, b *T) bool) {
	for i := range reflect.TypeFor[T]().NumField() {
		a, b := new(T), new(T)
		if !equal(a, b) {
			t.Fatal("two zero values differ")
		}
		field := reflect.ValueOf(b).Elem().Field(i)
		fill(field)
		if equal(a, b) || equal(b, a) {
			t.Errorf("a difference in %s is not seen", reflect.TypeFor[T]().Field(i).Name)
		}
		reflect.ValueOf(a).Elem().Field(i).Set(field)
		if !equal(a, b) {
			t.Errorf("equal values of %s differ", reflect.TypeFor[T]().Field(i).Name)
		}
	}
}

// fill sets a value to something that is not zero.
func fill(v reflect.Value) {
	switch v.Interface().(type) {
	case netip.Addr:
		v.Set(reflect.ValueOf(netip.MustParseAddr("10.0.0.1")))
		return
	case netip.Prefix:
		v.Set(reflect.ValueOf(netip.MustParsePrefix("10.0.0.0/8")))
		return
	case time.Time:
		v.Set(reflect.ValueOf(time.Unix(1, 0)))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		v.SetUint(1)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	default:
		panic("no rule for " + v.Type().String())
	}
}
