# What people and CI call. The work itself is in cargo and in the scripts under tests/.

.PHONY: help demo check test journey cluster-demo lint bench images cli
.DEFAULT_GOAL := help

target := $(or $(CARGO_TARGET_DIR),target)
static := x86_64-unknown-linux-gnu

help:
	@echo 'make demo          auth service, sidecar and a sample app in one process, to try things on'
	@echo 'make check         everything that needs no cluster'
	@echo 'make test          every suite; needs root and Go for the cluster'
	@echo 'make journey       the main job on a real cluster, from helm install to deleting the policy; part of make test'
	@echo 'make cluster-demo  the same on a Kubernetes of its own; needs root and Go'
	@echo 'make lint          formatting, clippy, generated files, licences'
	@echo 'make bench         what the sidecar costs per request, and the auth service'
	@echo 'make images        the container images'
	@echo 'make cli           $(target)/release/cloakroom, and kubectl-cloakroom beside it'

demo:
	cargo run --release --locked -p cloakroom -- local

check:
	tests/run check

test:
	tests/run all

journey:
	tests/run journey

cluster-demo:
	tests/cluster/demo

lint:
	tests/lint

bench: cli # Envoy and Oathkeeper too, where bench/peers has fetched them
	RUSTFLAGS='-C target-feature=+crt-static' cargo build --profile dist --locked --target $(static) -p cloakroom-sidecar
	cargo build --release --locked -p cloakroom-sidecar --example quick-authority
	bench/run
	bench/auth-service

images:
	tests/images

cli:
	cargo build --release --locked -p cloakroom
	ln -sf cloakroom $(target)/release/kubectl-cloakroom
