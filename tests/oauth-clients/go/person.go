package main

import (
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// person is somebody at a browser: keeps cookies, follows redirects, fills in our real forms.
type person struct {
	world   world
	cookies map[string]string
	http    http.Client
}

func newPerson(w world) *person {
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &person{world: w, cookies: map[string]string{}, http: http.Client{CheckRedirect: stay}}
}

func (p *person) ask(method, where, body string) (*http.Response, error) {
	request, err := http.NewRequest(method, where, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for name, value := range p.cookies {
		request.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	answer, err := p.http.Do(request)
	if err != nil {
		return nil, err
	}
	for _, cookie := range answer.Cookies() {
		p.cookies[cookie.Name] = cookie.Value
	}
	return answer, nil
}

// goTo returns where the browser ends up outside the service.
func (p *person) goTo(start string) (*url.URL, error) {
	at, err := url.Parse(start)
	if err != nil {
		return nil, err
	}
	answer, err := p.ask(http.MethodGet, start, "")
	for range 12 {
		if err != nil {
			return nil, err
		}
		text, readErr := io.ReadAll(answer.Body)
		answer.Body.Close()
		if readErr != nil {
			return nil, readErr
		}
		if location, locationErr := answer.Location(); locationErr == nil {
			at = location
			if strings.HasPrefix(at.String(), p.world.Callback) || strings.HasPrefix(at.String(), p.world.Bye) {
				return at, nil
			}
			answer, err = p.ask(http.MethodGet, at.String(), "")
			continue
		}
		action, fields, ok := p.fill(string(text))
		if !ok {
			return nil, fmt.Errorf("%d at %s: %s", answer.StatusCode, at, text)
		}
		if at, err = at.Parse(action); err == nil {
			answer, err = p.ask(http.MethodPost, at.String(), fields.Encode())
		}
	}
	return nil, fmt.Errorf("no end after %s", at)
}

var (
	form      = regexp.MustCompile(`(?s)<form method="post" action="([^"]*)">(.*?)</form>`)
	control   = regexp.MustCompile(`<(?:input|button)[^>]*>`)
	attribute = regexp.MustCompile(`\s(name|value)="([^"]*)"`)
)

func (p *person) fill(page string) (string, url.Values, bool) {
	found := form.FindStringSubmatch(page)
	if found == nil {
		return "", nil, false
	}
	fields := url.Values{"username": {p.world.Username}, "password": {p.world.Password}}
	for _, tag := range control.FindAllString(found[2], -1) {
		of := map[string]string{}
		for _, pair := range attribute.FindAllStringSubmatch(tag, -1) {
			of[pair[1]] = html.UnescapeString(pair[2])
		}
		if of["name"] != "" && !fields.Has(of["name"]) {
			fields.Set(of["name"], of["value"])
		}
	}
	return found[1], fields, true
}
