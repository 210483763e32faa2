// A second provider, which shares no line with the first: the certified github.com/zitadel/oidc with the storage of its example. It prints its
// issuer, then serves until it is ended. Usage: federation-go REDIRECT_URI
package main

import (
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
)

type people map[string]*storage.User

func (p people) GetUserByID(id string) *storage.User { return p[id] }

func (p people) GetUserByUsername(name string) *storage.User {
	for _, user := range p {
		if user.Username == name {
			return user
		}
	}
	return nil
}

func (p people) ExampleClientID() string { return storage.ServiceUserID }

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	// With a slash at its end, as some have it: `iss` is compared character by character (OpenID Connect Core §3.1.3.7).
	issuer := fmt.Sprintf("http://%s/", listener.Addr())
	storage.RegisterClients(storage.WebClient("cloakroom", "secret", os.Args[1]))
	users := people{
		"270103": {ID: "270103", Username: "carol", Password: "verysecure", FirstName: "Carol", LastName: "Example", Email: "carol@example.com", EmailVerified: true},
		// Says of herself, over there, that she is somebody else.
		"270104": {ID: "270104", Username: "mallory", Password: "verysecure", FirstName: "Mallory", LastName: "Example", Email: "carol@example.com", EmailVerified: true},
	}
	server := exampleop.SetupServer(issuer, storage.NewStorage(users), slog.New(slog.NewTextHandler(io.Discard, nil)), false)
	fmt.Println(issuer)
	log.Fatal(http.Serve(listener, server))
}
