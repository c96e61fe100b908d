package bench

import "math/rand/v2"

// anywhere calls f at a random depth of the stack, within a page of here. AES keeps on the stack what it works on: where that
// happens to straddle two pages, it takes half as long again. At the same depth each time, one way or the other might
// always pay for that.
func anywhere(f func()) { deeper(rand.IntN(4096/depthStep), f) }

// depthStep is how much of the stack a call of deeper takes, about.
const depthStep = 64

//go:noinline
func deeper(calls int, f func()) {
	var frame [depthStep - 32]byte
	if calls > 0 {
		deeper(calls-1, f)
	} else {
		f()
	}
	keep(&frame)
}

// keep is where the compiler cannot see that a frame is of no use.
//
//go:noinline
func keep(*[depthStep - 32]byte) {}
