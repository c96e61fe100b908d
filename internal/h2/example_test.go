package h2_test

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/eastwest-mesh/eastwest/internal/h2"
	"github.com/eastwest-mesh/eastwest/internal/memnet"
)

func Example() {
	a, b := memnet.Pipe()
	server, err := h2.NewServer(b, h2.Config{}, func(s *h2.Stream) {
		defer s.Close()
		s.Accept(http.Header{"X-Backend": {"reviews-v1"}})
		request, _ := io.ReadAll(s)
		fmt.Fprintf(s, "%s of %s", request, s.Authority())
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()

	client, err := h2.NewClient(a, h2.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	stream, err := client.Open(context.Background(), "reviews.app:80", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stream.Close()
	fmt.Fprint(stream, "ratings")
	stream.CloseWrite()
	answer, _ := io.ReadAll(stream)
	fmt.Println(stream.ResponseHeader().Get("X-Backend"), "says:", string(answer))
	// Output: reviews-v1 says: ratings of reviews.app:80
}
