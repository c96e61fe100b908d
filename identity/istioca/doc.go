// Package istioca speaks Istio's certificate service (gRPC method
// CreateCertificate of istio.v1.auth.IstioCertificateService), as a client and
// as a server. Either end works with Istio's own.
//
//	        node proxy                               control plane
//	+-------------------------+             +-------------------------------+
//	| Manager                 |    gRPC     | Server                        |
//	|  +- Source of pod a's   |  over TLS   |   Authenticator: who calls?   |
//	|  |  service account  ---+--> Client --+-> Nodes: may it speak for     |
//	|  +- Source of pod b's   |             |   that service account?       |
//	+-------------------------+             |   identity.CA signs           |
//	   each is an identity.Source           +-------------------------------+
//
// Callers prove themselves by their certificate (ClientCertificates), by a token
// of Kubernetes (TokenReviews), or by another token (Tokens).
//
// A Client fetches one certificate. A Source has a current one at all times: it
// renews at half life, and when the CA cannot be reached it keeps what it has
// until that expires, tries again with growing delays, and recovers by itself.
// A Manager holds the sources of many identities, for a node proxy that
// impersonates the service accounts of the pods on its node.
//
// The Server certifies identities and nothing else: of the certificate signing
// request it uses only the public key. The identity is that of the caller, or
// the one that the caller asks to impersonate, which only trusted node accounts
// may do and only for workloads on their own node.
//
// # What it does not do
//
// It does not dial or listen: give it a gRPC connection and a gRPC server. It
// does not speak to API servers: TokenReviews wants an interface, which is a few
// lines around a client of Kubernetes. The server does not know external signers
// (CertSigner): such requests are refused.
package istioca
