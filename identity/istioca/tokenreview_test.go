package istioca

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	authentication "k8s.io/api/authentication/v1"

	istio "istio.io/api/security/v1alpha1"

	"github.com/eastwest-mesh/eastwest/identity"
)

// apiServer reviews tokens as Kubernetes does, over HTTP.
type apiServer struct {
	tokens map[string]authentication.TokenReviewStatus
	url    string
}

func newAPIServer(t *testing.T, tokens map[string]authentication.TokenReviewStatus) *apiServer {
	t.Helper()
	a := &apiServer{tokens: tokens}
	s := httptest.NewServer(a)
	t.Cleanup(s.Close)
	a.url = s.URL
	return a
}

func (a *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var review authentication.TokenReview
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil || r.Method != http.MethodPost || r.URL.Path != "/apis/authentication.k8s.io/v1/tokenreviews" {
		http.Error(w, fmt.Sprint("bad request: ", err), http.StatusBadRequest)
		return
	}
	status, ok := a.tokens[review.Spec.Token]
	if !ok {
		status.Error = "[invalid bearer token, service account token has been invalidated]"
	}
	// Those that both sides know, as the API server computes it.
	status.Audiences = slices.DeleteFunc(slices.Clone(status.Audiences), func(one string) bool { return !slices.Contains(review.Spec.Audiences, one) })
	if ok && len(status.Audiences) == 0 {
		status = authentication.TokenReviewStatus{Error: "[invalid bearer token, token audiences " + fmt.Sprint(a.tokens[review.Spec.Token].Audiences) + " is invalid]"}
	}
	review.Status, review.Spec = status, authentication.TokenReviewSpec{}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(review)
}

// Review implements TokenReviewer, as a client of Kubernetes would.
func (a *apiServer) Review(ctx context.Context, token string, audiences []string) (TokenReview, error) {
	body, err := json.Marshal(authentication.TokenReview{Spec: authentication.TokenReviewSpec{Token: token, Audiences: audiences}})
	if err != nil {
		return TokenReview{}, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url+"/apis/authentication.k8s.io/v1/tokenreviews", bytes.NewReader(body))
	if err != nil {
		return TokenReview{}, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return TokenReview{}, err
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer response.Body.Close()
	if response.StatusCode != http.StatusCreated {
		return TokenReview{}, errors.New(response.Status)
	}
	var review authentication.TokenReview
	if err := json.NewDecoder(response.Body).Decode(&review); err != nil {
		return TokenReview{}, err
	}
	out := TokenReview{
		Authenticated: review.Status.Authenticated,
		Error:         review.Status.Error,
		Username:      review.Status.User.Username,
		Groups:        review.Status.User.Groups,
		Audiences:     review.Status.Audiences,
		Extra:         map[string][]string{},
	}
	for key, values := range review.Status.User.Extra {
		out.Extra[key] = values
	}
	return out, nil
}

// accountToken is what an API server says of a service account's token.
func accountToken(username string, extra map[string]authentication.ExtraValue) authentication.TokenReviewStatus {
	return authentication.TokenReviewStatus{
		Authenticated: true,
		Audiences:     []string{"istio-ca"},
		User: authentication.UserInfo{
			Username: username,
			UID:      "2ca1a8f5-3d5e-4b52-9b3c-2a0f1d7b9e11",
			Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:istio-system", "system:authenticated"},
			Extra:    extra,
		},
	}
}

const ztunnelAccount = "system:serviceaccount:istio-system:ztunnel"

func boundTo(pod, node string) map[string]authentication.ExtraValue {
	extra := map[string]authentication.ExtraValue{
		extraPodName: {pod},
		extraPodUID:  {"uid-of-" + pod},
		"authentication.kubernetes.io/credential-id": {"JTI=7ee52be0-9045-4653-aa5e-0da57b8dccdc"},
	}
	if node != "" {
		extra[extraNodeName] = authentication.ExtraValue{node}
	}
	return extra
}

func TestTokenReviews(t *testing.T) {
	otherAudience := accountToken("system:serviceaccount:app:reviews", nil)
	otherAudience.Audiences = []string{"https://kubernetes.default.svc"}
	user := accountToken("kubernetes-admin", nil)
	user.User.Groups = []string{"system:masters", "system:authenticated"}
	twoNodes := boundTo("ztunnel-x", "node-1")
	twoNodes[extraNodeName] = authentication.ExtraValue{"node-1", "node-2"}
	home := newAPIServer(t, map[string]authentication.TokenReviewStatus{
		"pod":            accountToken("system:serviceaccount:app:reviews", boundTo("reviews-1", "node-1")),
		"unbound":        accountToken("system:serviceaccount:app:reviews", nil),
		"node-proxy":     accountToken(ztunnelAccount, boundTo("ztunnel-1", "node-1")),
		"old-proxy":      accountToken(ztunnelAccount, boundTo("ztunnel-2", "")),
		"gone-proxy":     accountToken(ztunnelAccount, boundTo("ztunnel-3", "")),
		"two-nodes":      accountToken(ztunnelAccount, twoNodes),
		"other-audience": otherAudience,
		"user":           user,
		"odd-user":       accountToken("system:serviceaccount:app", nil),
		"odder-user":     accountToken("system:serviceaccount:app:reviews:more", nil),
		"impostor":       accountToken("system:node:node-1", nil),
		"odd-name":       accountToken("system:serviceaccount:app:re/views", nil),
	})
	remote := newAPIServer(t, map[string]authentication.TokenReviewStatus{
		"remote-pod": accountToken("system:serviceaccount:app:details", nil),
	})
	down := &apiServer{url: "http://127.0.0.1:1"}
	reviews := TokenReviews{
		TrustDomain: local,
		Reviewer: func(cluster string) (TokenReviewer, error) {
			one, ok := map[string]*apiServer{"": home, "home": home, "remote": remote, "down": down}[cluster]
			if !ok {
				return nil, errors.New("no such cluster")
			}
			return one, nil
		},
		Node: func(_ context.Context, cluster string, pod Pod) (string, error) {
			if pod != (Pod{"istio-system", "ztunnel-2", "uid-of-ztunnel-2"}) || cluster != "home" {
				return "", errors.New("no such pod")
			}
			return "node-2", nil
		},
	}
	var seen []Caller
	cfg := serverConfig(newCA(t, identity.CAConfig{}))
	cfg.Authenticator = reviews
	cfg.Nodes = nodesFunc(func(c Caller, id spiffeid.ID) bool {
		seen = append(seen, c)
		return (c.Node == "node-1" || c.Node == "node-2") && id == pod
	})
	w := serve(t, cfg)
	details := spiffeid.RequireFromString("spiffe://cluster.local/ns/app/sa/details")
	for _, tc := range []struct {
		token, cluster string
		impersonate    spiffeid.ID
		want           spiffeid.ID // zero: refused
		log            string      // of the refusal
	}{
		{token: "pod", want: pod},
		{token: "pod", cluster: "home", want: pod},
		{token: "unbound", want: pod},
		{token: "remote-pod", cluster: "remote", want: details},
		{token: "remote-pod", cluster: "home", log: "invalid bearer token"},
		{token: "pod", cluster: "remote", log: "invalid bearer token"},
		{token: "pod", cluster: "elsewhere", log: "no such cluster"},
		{token: "pod", cluster: "down", log: "no review"},
		{token: "nobody's", log: "invalid bearer token"},
		{token: "other-audience", log: "audiences"},
		{token: "user", log: "is not a service account"},
		{token: "odd-user", log: "is not a service account"},
		{token: "odder-user", log: "is not a service account"},
		{token: "impostor", log: "is not a service account"},
		{token: "odd-name", log: "re/views"},
		{token: "node-proxy", impersonate: pod, want: pod},
		{token: "node-proxy", impersonate: absent, log: "no such workload"},
		{token: "old-proxy", cluster: "home", impersonate: pod, want: pod},
		{token: "gone-proxy", cluster: "home", impersonate: pod, log: "no such pod"},
		{token: "two-nodes", impersonate: pod, log: "no such pod"},
		{token: "pod", impersonate: pod, log: "not a trusted node"},
		{token: "unbound", impersonate: pod, log: "not a trusted node"},
	} {
		t.Run(strings.Join([]string{tc.token, tc.cluster, tc.impersonate.Path()}, "|"), func(t *testing.T) {
			before := len(w.log.String())
			ctx := withBearer(t.Context(), tc.token)
			if tc.cluster != "" {
				ctx = metadata.AppendToOutgoingContext(ctx, headerCluster, tc.cluster)
			}
			in := &istio.IstioCertificateRequest{Csr: requestPEM(t, p256(t), nil)}
			if !tc.impersonate.IsZero() {
				in.Metadata = impersonating(tc.impersonate.String())
			}
			leaf, _, err := call(ctx, t, w.dial(t), in)
			if tc.want.IsZero() {
				if status.Code(err) != codes.Unauthenticated || !strings.Contains(w.log.String()[before:], tc.log) {
					t.Errorf("got %v, log %s; want a refusal with %q", err, w.log.String()[before:], tc.log)
				}
				if strings.Contains(w.log.String(), "token="+tc.token) {
					t.Error("the token is in the log")
				}
				return
			}
			if err != nil {
				t.Fatalf("%v, log %s", err, w.log.String()[before:])
			}
			if id, err := identity.CertificateID(leaf); err != nil || id != tc.want {
				t.Errorf("certified as %v, %v, want %v", id, err, tc.want)
			}
		})
	}
	for _, c := range seen {
		if c.ID != ztunnel {
			t.Errorf("it was asked what runs on the node of %v", c.ID)
		}
	}
}

// TestOldAPIServer knows no audiences, and so has not checked them.
func TestOldAPIServer(t *testing.T) {
	review := TokenReview{Authenticated: true, Username: ztunnelAccount, Groups: []string{accountGroup}}
	if _, _, err := review.account([]string{DefaultAudience}); err == nil {
		t.Error("a token for nobody knows whom is accepted")
	}
	review.Audiences = []string{"vault", DefaultAudience}
	if ns, sa, err := review.account([]string{DefaultAudience}); err != nil || ns != "istio-system" || sa != "ztunnel" {
		t.Errorf("got %s/%s, %v", ns, sa, err)
	}
}

// nodesFunc is a Nodes.
type nodesFunc func(Caller, spiffeid.ID) bool

func (f nodesFunc) RunsOn(_ context.Context, c Caller, id spiffeid.ID) (bool, error) {
	return f(c, id), nil
}
