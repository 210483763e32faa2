//! What a server says about itself in `INFO`.

pub(super) fn connected_replicas(info: &str) -> u64 {
    let line = info.lines().find_map(|line| line.strip_prefix("connected_slaves:"));
    line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

pub(super) fn advice_from(info: &str) -> Vec<String> {
    let value = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let mut advice = Vec::new();
    if value("maxmemory").is_some_and(|limit| limit != "0") && value("maxmemory_policy") != Some("noeviction") {
        advice.push("set maxmemory-policy noeviction: an evicted session signs somebody out".to_owned());
    }
    if connected_replicas(info) > 0 && value("min_slaves_good_slaves").is_none() {
        advice.push(
            "set min-replicas-to-write 1: a primary cut off from its replicas takes writes that a failover forgets"
                .to_owned(),
        );
    }
    advice
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_counted_as_the_server_lists_them() {
        assert_eq!(connected_replicas("# Replication\r\nrole:master\r\nconnected_slaves:2\r\n"), 2);
        assert_eq!(connected_replicas("role:slave\r\n"), 0);
    }

    #[test]
    fn a_server_that_may_forget_is_advised_against() {
        let evicting = "maxmemory:1000\r\nmaxmemory_policy:allkeys-lru\r\nconnected_slaves:1\r\n";
        assert_eq!(advice_from(evicting).len(), 2);
        let fine =
            "maxmemory:1000\r\nmaxmemory_policy:noeviction\r\nconnected_slaves:1\r\nmin_slaves_good_slaves:1\r\n";
        assert_eq!(advice_from(fine), Vec::<String>::new());
        assert_eq!(
            advice_from("maxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\nconnected_slaves:0\r\n"),
            Vec::<String>::new()
        );
    }
}
