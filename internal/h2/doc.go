// Package h2 is an HTTP/2 engine for CONNECT tunnels (RFC 9113 §8.5): client and
// server of one connection, whose streams are net.Conns.
//
//	    client                                    server
//	Open(authority) --- HEADERS :method=CONNECT --> handle(*Stream)
//	*Stream        <--- HEADERS :status=200 ------- Accept
//	  Write ----------- DATA ---------------------> Read
//	  Read <----------- DATA ---------------------- Write
//	  CloseWrite ------ DATA + END_STREAM --------> io.EOF
//
// A connection runs over any net.Conn: TLS made by [TLSClient] and [TLSServer]
// (whose sends never block), in-memory pipes, or a [Stream] of another
// connection, which is how tunnels nest.
//
// # Ends of a stream
//
// Both directions end on their own. END_STREAM is a clean end, which Read
// reports as io.EOF. RST_STREAM before END_STREAM is an abort, whatever its
// code, which Read reports as a [*StreamError]: a truncated transfer can be
// told from a whole one. (ztunnel takes a reset with NO_ERROR or CANCEL for a
// clean end.) RST_STREAM after END_STREAM leaves what was received
// readable up to io.EOF, and fails Write.
//
// # What it does not do
//
// It serves no request but CONNECT (others are answered with status 400), sends
// and takes no pushes, priorities or trailers, and knows nothing of identities,
// pools of connections, or hops.
package h2
