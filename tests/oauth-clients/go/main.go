// Go `github.com/coreos/go-oidc` with `golang.org/x/oauth2`, which most of the Kubernetes world signs in with.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

type client struct {
	ID     string `json:"client_id"`
	Secret string `json:"client_secret"`
}

type world struct {
	Issuer   string
	Audience string
	Callback string
	Bye      string
	Username string
	Password string
	Web      client
	Native   client
	Robot    client
	TV       client
}

type judge struct {
	world    world
	ctx      context.Context
	provider *oidc.Provider
}

func main() {
	text, err := os.ReadFile(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	var j judge
	if err := json.Unmarshal(text, &j.world); err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	j.ctx = ctx
	if j.provider, err = oidc.NewProvider(ctx, j.world.Issuer); err != nil {
		log.Fatal(err)
	}
	cases := []struct {
		sentence string
		run      func() error
	}{
		{"code flow, ID token with nonce and at_hash, user info", j.codeFlow},
		{"a public client with PKCE", j.publicClient},
		{"refreshing goes on by itself", j.refreshing},
		{"a used code is invalid_grant", j.usedCode},
		{"client credentials", j.clientCredentials},
		{"a device", j.device},
	}
	for _, c := range cases {
		if err := c.run(); err != nil {
			fmt.Printf("FAILED go-oidc: %s: %v\n", c.sentence, err)
		} else {
			fmt.Printf("ok go-oidc: %s\n", c.sentence)
		}
	}
	fmt.Println("done")
}

func (j *judge) config(c client) *oauth2.Config {
	return &oauth2.Config{
		ClientID:     c.ID,
		ClientSecret: c.Secret,
		Endpoint:     j.provider.Endpoint(),
		RedirectURL:  j.world.Callback,
		Scopes:       []string{oidc.ScopeOpenID, "profile", "email"},
	}
}

// signIn returns what came back, and the verifier and nonce that belong to it.
func (j *judge) signIn(config *oauth2.Config) (code, verifier, nonce string, err error) {
	verifier, nonce = oauth2.GenerateVerifier(), oauth2.GenerateVerifier()
	start := config.AuthCodeURL("the-state", oauth2.S256ChallengeOption(verifier), oidc.Nonce(nonce))
	back, err := newPerson(j.world).goTo(start)
	if err != nil {
		return "", "", "", err
	}
	query := back.Query()
	if query.Get("state") != "the-state" || query.Get("iss") != j.world.Issuer {
		return "", "", "", fmt.Errorf("came back as %s", back)
	}
	return query.Get("code"), verifier, nonce, nil
}

func (j *judge) tokens(config *oauth2.Config) (*oauth2.Token, string, error) {
	code, verifier, nonce, err := j.signIn(config)
	if err != nil {
		return nil, "", err
	}
	token, err := config.Exchange(j.ctx, code, oauth2.VerifierOption(verifier))
	return token, nonce, err
}

func (j *judge) verify(config *oauth2.Config, token *oauth2.Token, nonce string) (*oidc.IDToken, error) {
	raw, ok := token.Extra("id_token").(string)
	if !ok {
		return nil, errors.New("no ID token")
	}
	id, err := j.provider.VerifierContext(j.ctx, &oidc.Config{ClientID: config.ClientID}).Verify(j.ctx, raw)
	if err != nil {
		return nil, err
	}
	if id.Nonce != nonce {
		return nil, fmt.Errorf("nonce %q", id.Nonce)
	}
	return id, id.VerifyAccessToken(token.AccessToken)
}

func (j *judge) codeFlow() error {
	config := j.config(j.world.Web)
	token, nonce, err := j.tokens(config)
	if err != nil {
		return err
	}
	id, err := j.verify(config, token, nonce)
	if err != nil {
		return err
	}
	info, err := j.provider.UserInfo(j.ctx, config.TokenSource(j.ctx, token))
	if err != nil {
		return err
	}
	if info.Subject != id.Subject || info.Email != "demo@example.com" {
		return fmt.Errorf("user info %+v", info)
	}
	return nil
}

func (j *judge) publicClient() error {
	config := j.config(j.world.Native)
	token, nonce, err := j.tokens(config)
	if err != nil {
		return err
	}
	_, err = j.verify(config, token, nonce)
	return err
}

func (j *judge) refreshing() error {
	config := j.config(j.world.Web)
	token, _, err := j.tokens(config)
	if err != nil {
		return err
	}
	before := *token
	token.Expiry = time.Now().Add(-time.Hour)
	after, err := config.TokenSource(j.ctx, token).Token()
	if err != nil {
		return err
	}
	if after.AccessToken == before.AccessToken || after.RefreshToken == before.RefreshToken {
		return errors.New("nothing was rotated")
	}
	if _, err = j.verify(config, after, ""); err != nil {
		return fmt.Errorf("refreshed ID token: %w", err)
	}
	return nil
}

func (j *judge) usedCode() error {
	config := j.config(j.world.Web)
	code, verifier, _, err := j.signIn(config)
	if err != nil {
		return err
	}
	if _, err := config.Exchange(j.ctx, code, oauth2.VerifierOption(verifier)); err != nil {
		return err
	}
	_, err = config.Exchange(j.ctx, code, oauth2.VerifierOption(verifier))
	var refused *oauth2.RetrieveError
	if !errors.As(err, &refused) || refused.ErrorCode != "invalid_grant" {
		return fmt.Errorf("the second time: %v", err)
	}
	return nil
}

func (j *judge) clientCredentials() error {
	config := clientcredentials.Config{
		ClientID:       j.world.Robot.ID,
		ClientSecret:   j.world.Robot.Secret,
		TokenURL:       j.provider.Endpoint().TokenURL,
		Scopes:         []string{"orders"},
		EndpointParams: url.Values{"resource": {j.world.Audience}},
	}
	token, err := config.Token(j.ctx)
	if err != nil {
		return err
	}
	if token.TokenType != "Bearer" || token.Expiry.IsZero() {
		return fmt.Errorf("token %+v", token)
	}
	return nil
}

func (j *judge) device() error {
	config := &oauth2.Config{ClientID: j.world.TV.ID, Endpoint: j.provider.Endpoint(), Scopes: []string{oidc.ScopeOpenID}}
	device, err := config.DeviceAuth(j.ctx)
	if err != nil {
		return err
	}
	if _, err := newPerson(j.world).goTo(device.VerificationURIComplete); err == nil || !strings.Contains(err.Error(), "connected") {
		return fmt.Errorf("the page for people: %w", err)
	}
	token, err := config.DeviceAccessToken(j.ctx, device)
	if err != nil {
		return err
	}
	_, err = j.verify(config, token, "")
	return err
}
