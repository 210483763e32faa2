//! Interception with the real binary in a network namespace of its own. Needs root; without it the tests say so and fail in CI.

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Output, Stdio};
    use std::time::{Duration, Instant};

    const SIDECAR: &str = env!("CARGO_BIN_EXE_cloakroom-sidecar");

    /// A "pod" and a "client", joined by a pair of virtual interfaces.
    struct Network {
        pod: String,
        client: String,
        running: Vec<Child>,
    }

    impl Network {
        /// `None` where namespaces cannot be made.
        fn new(name: &str) -> Option<Self> {
            let id = std::process::id();
            let network = Self { pod: format!("crp{name}{id}"), client: format!("crc{name}{id}"), running: Vec::new() };
            if !ip(&["netns", "add", &network.pod]).status.success() {
                assert!(std::env::var_os("CI").is_none(), "network namespaces are needed, and CI has to have them");
                eprintln!("SKIPPED: cannot make network namespaces (root is needed)");
                return None;
            }
            let (pod, client) = (network.pod.as_str(), network.client.as_str());
            let (outer, inner) = (format!("co{name}{id}"), format!("ci{name}{id}"));
            for arguments in [
                &["netns", "add", client][..],
                &["link", "add", &outer, "netns", client, "type", "veth", "peer", "name", &inner, "netns", pod],
                &["-n", client, "addr", "add", "10.123.0.1/24", "dev", &outer],
                &["-n", pod, "addr", "add", "10.123.0.2/24", "dev", &inner],
                &["-n", client, "addr", "add", "fd12:3::1/64", "dev", &outer, "nodad"],
                &["-n", pod, "addr", "add", "fd12:3::2/64", "dev", &inner, "nodad"],
                &["-n", client, "link", "set", &outer, "up"],
                &["-n", pod, "link", "set", &inner, "up"],
                &["-n", pod, "link", "set", "lo", "up"],
            ] {
                let output = ip(arguments);
                assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
            }
            Some(network)
        }

        fn intercept(&self, arguments: &[&str]) -> Output {
            Command::new("ip")
                .args(["netns", "exec", &self.pod, SIDECAR, "intercept"])
                .args(arguments)
                .output()
                .unwrap()
        }

        fn serve(&mut self, ports: &str) {
            let child = Command::new("ip")
                .args(["netns", "exec", &self.pod, SIDECAR])
                .env("CLOAKROOM_PORTS", ports)
                .env("CLOAKROOM_CONFIG", "/nonexistent/config.json")
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            self.running.push(child);
        }

        /// The status that somebody in `namespace` gets, 0 without an answer.
        fn status(namespace: &str, url: &str) -> u16 {
            let output = Command::new("ip")
                .args([
                    "netns",
                    "exec",
                    namespace,
                    "curl",
                    "-s",
                    "-o",
                    "/dev/null",
                    "-w",
                    "%{http_code}",
                    "-m",
                    "2",
                    url,
                ])
                .output()
                .unwrap();
            String::from_utf8_lossy(&output.stdout).parse().unwrap_or(0)
        }

        fn becomes(namespace: &str, url: &str, wanted: u16) {
            let deadline = Instant::now() + Duration::from_secs(10);
            loop {
                let status = Self::status(namespace, url);
                if status == wanted {
                    return;
                }
                assert!(Instant::now() < deadline, "{url} answers {status}, not {wanted}");
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }

    impl Drop for Network {
        fn drop(&mut self) {
            for child in &mut self.running {
                let _ = child.kill();
                let _ = child.wait();
            }
            // The links go with them.
            ip(&["netns", "del", &self.pod]);
            ip(&["netns", "del", &self.client]);
        }
    }

    fn ip(arguments: &[&str]) -> Output {
        Command::new("ip").args(arguments).output().unwrap()
    }

    #[test]
    fn what_comes_from_outside_goes_to_the_sidecar_and_its_own_connections_to_the_app_do_not() {
        let Some(mut network) = Network::new("a") else { return };
        // A sidecar without a config denies everything: 503 says that it was the sidecar who answered.
        network.serve("8080:15006,9090:15007");
        Network::becomes(&network.client, "http://10.123.0.2:15006/", 503);
        assert_eq!(Network::status(&network.client, "http://10.123.0.2:8080/"), 0, "nothing is there yet");
        let output = network.intercept(&["--redirect", "8080:15006", "--redirect", "9090:15007"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        for url in ["http://10.123.0.2:8080/", "http://[fd12:3::2]:8080/", "http://10.123.0.2:9090/"] {
            assert_eq!(Network::status(&network.client, url), 503, "{url}");
        }
        assert_eq!(Network::status(&network.client, "http://10.123.0.2:8081/"), 0, "not protected");
        for url in ["http://127.0.0.1:8080/", "http://[::1]:8080/"] {
            assert_eq!(Network::status(&network.pod, url), 0, "the sidecar would speak with itself: {url}");
        }
    }

    #[test]
    fn writing_the_rules_again_replaces_them() {
        let Some(mut network) = Network::new("b") else { return };
        network.serve("8080:15006");
        Network::becomes(&network.client, "http://10.123.0.2:15006/", 503);
        for ports in ["9090:15006", "8080:15006", "8080:15006"] {
            assert!(network.intercept(&["--redirect", ports]).status.success());
        }
        assert_eq!(Network::status(&network.client, "http://10.123.0.2:8080/"), 503);
        assert_eq!(
            Network::status(&network.client, "http://10.123.0.2:9090/"),
            0,
            "of the first rules nothing is left"
        );
    }

    #[test]
    fn without_the_capability_the_error_says_what_is_missing() {
        let Some(network) = Network::new("c") else { return };
        let output = Command::new("ip")
            .args(["netns", "exec", &network.pod, "setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"])
            .args([SIDECAR, "intercept", "--redirect", "8080:15006"])
            .output()
            .unwrap();
        assert!(!output.status.success());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("NET_ADMIN"), "{said}");
    }
}
