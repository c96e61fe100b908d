package dnsproxy

import (
	"cmp"
	"container/list"
	"math"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// CacheConfig bounds the cache of a [Forwarder]. The zero value works.
type CacheConfig struct {
	// Disabled remembers nothing.
	Disabled bool
	// Size is the largest number of answers; none is larger than 4 KiB on the
	// wire. Zero means 4096.
	Size int
	// MinTTL and MaxTTL clamp the life of answers. Zero means 0 and 1 h.
	MinTTL, MaxTTL time.Duration
	// StaleFor is how long an answer is kept after its end, to be used when no
	// upstream answers (RFC 8767). Zero means 24 h, negative not at all.
	StaleFor time.Duration
}

const (
	defaultCacheSize = 4096
	defaultMaxTTL    = time.Hour
	defaultStaleFor  = 24 * time.Hour
	maxCached        = 4096 // bytes of one response

	staleTTL     = 30               // seconds, RFC 8767 section 4
	recheckAfter = 30 * time.Second // the failure recheck timer of RFC 8767 section 5
)

// cacheKey is what has to be equal for two queries to have the same answer.
type cacheKey struct {
	name          string
	qtype, qclass uint16
	rd, cd, do    bool
}

func keyOf(q *dns.Msg) cacheKey {
	opt := q.IsEdns0()
	return cacheKey{
		name:   dns.CanonicalName(q.Question[0].Name),
		qtype:  q.Question[0].Qtype,
		qclass: q.Question[0].Qclass,
		rd:     q.RecursionDesired,
		cd:     q.CheckingDisabled,
		do:     opt != nil && opt.Do(),
	}
}

// cache remembers responses, the least recently used ones last.
type cache struct {
	CacheConfig
	mu      sync.Mutex
	entries map[cacheKey]*list.Element // of *cached
	recent  *list.List
}

type cached struct {
	key     cacheKey
	msg     *dns.Msg // shared: not to be modified
	stored  time.Time
	expires time.Time
	recheck time.Time // after a failure: not before
}

// cacheState says what a cache has.
type cacheState int

const (
	cacheMiss  cacheState = iota
	cacheStale            // to be used if nothing better can be had
	cacheFresh            // to be used
)

func newCache(c CacheConfig) *cache {
	c.Size = cmp.Or(c.Size, defaultCacheSize)
	c.MaxTTL = cmp.Or(c.MaxTTL, defaultMaxTTL)
	c.StaleFor = max(0, cmp.Or(c.StaleFor, defaultStaleFor))
	return &cache{CacheConfig: c, entries: make(map[cacheKey]*list.Element), recent: list.New()}
}

// get returns a copy of what is remembered under key, with the time to live that is left.
func (c *cache) get(key cacheKey, now time.Time) (*dns.Msg, cacheState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	el, ok := c.entries[key]
	if !ok {
		return nil, cacheMiss
	}
	e := el.Value.(*cached)
	if !now.Before(e.expires.Add(c.StaleFor)) {
		c.drop(el)
		return nil, cacheMiss
	}
	c.recent.MoveToFront(el)
	msg := e.msg.Copy()
	msg.Authoritative = false
	if now.Before(e.expires) {
		setTTL(msg, func(ttl uint32) uint32 { return aged(e, ttl, now) })
		return msg, cacheFresh
	}
	setTTL(msg, func(uint32) uint32 { return staleTTL })
	if now.Before(e.recheck) {
		return msg, cacheFresh // the upstreams failed a moment ago
	}
	return msg, cacheStale
}

// aged is what is left of ttl, which may have been clamped.
func aged(e *cached, ttl uint32, now time.Time) uint32 {
	left := seconds(e.expires.Sub(now) + time.Second - 1)
	age := seconds(now.Sub(e.stored))
	if ttl > age {
		return max(1, min(ttl-age, left))
	}
	return max(1, left)
}

// put remembers msg, which nobody may modify any more, if it may be.
func (c *cache) put(key cacheKey, msg *dns.Msg, now time.Time) {
	ttl, ok := ttlOf(msg)
	if ttl = min(max(ttl, c.MinTTL), c.MaxTTL); c.Disabled || !ok || ttl <= 0 || msg.Truncated || msg.Len() > maxCached {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if el, ok := c.entries[key]; ok {
		c.drop(el)
	}
	c.entries[key] = c.recent.PushFront(&cached{key: key, msg: msg, stored: now, expires: now.Add(ttl)})
	for c.recent.Len() > c.Size {
		c.drop(c.recent.Back())
	}
}

// failed notes that what is remembered under key could not be refreshed.
func (c *cache) failed(key cacheKey, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el, ok := c.entries[key]; ok {
		el.Value.(*cached).recheck = now.Add(recheckAfter)
	}
}

func (c *cache) drop(el *list.Element) {
	delete(c.entries, el.Value.(*cached).key)
	c.recent.Remove(el)
}

// ttlOf is how long msg may be remembered: as its shortest answer, and as its SOA
// says where there is none (RFC 2308 section 5). Without either it may not be.
func ttlOf(msg *dns.Msg) (time.Duration, bool) {
	ttl, found := uint32(math.MaxUint32), false
	for _, rr := range msg.Answer {
		ttl, found = min(ttl, rr.Header().Ttl), true
	}
	if msg.Rcode == dns.RcodeNameError {
		found = false
	}
	for _, rr := range msg.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			ttl, found = min(ttl, soa.Hdr.Ttl, soa.Minttl), true
		}
	}
	return time.Duration(ttl) * time.Second, found
}

func setTTL(msg *dns.Msg, f func(uint32) uint32) {
	for _, section := range [][]dns.RR{msg.Answer, msg.Ns, msg.Extra} {
		for _, rr := range section {
			if h := rr.Header(); h.Rrtype != dns.TypeOPT { // its TTL field is flags
				h.Ttl = f(h.Ttl)
			}
		}
	}
}
