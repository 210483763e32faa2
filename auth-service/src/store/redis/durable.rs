//! Writes that replicas hold before they are acknowledged.
//!
//! `WAIT` speaks of what its own connection has written. On a new one, opened to the primary that a failover has just made, it confirms
//! whatever it is asked. So it goes out in one pipeline with the writes it is to confirm, on one connection.

use std::borrow::Cow;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use redis::aio::ConnectionLike;
use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use redis::{Cmd, FromRedisValue, Pipeline, RedisError, Value, cmd, from_redis_value};

use super::connect::{Connection, Verdict};
use super::info::connected_replicas;
use super::scripts::{self, Script};
use super::{Failure, Intent, REPLICATION, RedisStore, failed, fewer, parse_id, publish_arguments};
use crate::store::{Fields, Key, Revocation, StoreError};

/// Documents that are removed in one pipeline.
const AT_ONCE: usize = 100;
/// How long a count of the primary's replicas holds.
const COUNT_HOLDS: Duration = Duration::from_secs(1);

/// A script's keys and arguments.
pub(super) struct Call<'a> {
    pub(super) keys: Vec<String>,
    pub(super) arguments: Vec<Cow<'a, str>>,
}

impl RedisStore {
    pub(super) async fn durably<T: FromRedisValue>(&self, script: &Script, call: &Call<'_>) -> Result<T, StoreError> {
        let (mut answers, _) = self.all_durably(script, std::slice::from_ref(call)).await?;
        let answer = answers.pop().unwrap_or(Value::Nil);
        from_redis_value(answer).map_err(|error| StoreError::Unavailable(error.to_string()))
    }

    /// Several calls of one script whose keys are on one node; and how many replicas hold what they wrote, where it has any.
    async fn all_durably(&self, script: &Script, calls: &[Call<'_>]) -> Result<(Vec<Value>, Option<u64>), StoreError> {
        let Some(at) = calls.first().and_then(|call| call.keys.first()) else { return Ok((Vec::new(), None)) };
        let wanted = self.wanted_replicas(at).await?;
        let mut by_text = false;
        let mut again = false;
        let mut answers = loop {
            let mut pipeline = Pipeline::with_capacity(calls.len() + 1);
            for call in calls {
                let keys: Vec<&str> = call.keys.iter().map(String::as_str).collect();
                let arguments: Vec<&str> = call.arguments.iter().map(AsRef::as_ref).collect();
                pipeline.add_command(script.call(&keys, &arguments, by_text));
            }
            if let Some(wanted) = wanted {
                pipeline.cmd("WAIT").arg(wanted).arg(u64::try_from(REPLICATION.as_millis()).unwrap_or(1000));
            }
            match self.pipeline(at, pipeline).await {
                Ok(answers) => break answers,
                Err(Failure { verdict: Verdict::NoScript, .. }) if !by_text => by_text = true,
                Err(Failure { verdict: Verdict::WrongServer, .. }) if !again => again = true,
                Err(Failure { verdict: Verdict::Lost, .. }) if !again && script.is_repeatable() => again = true,
                Err(failure) => return Err(failure.error),
            }
        };
        let Some(wanted) = wanted else { return Ok((answers, None)) };
        let reached: u64 = from_redis_value(answers.pop().unwrap_or(Value::Nil))
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        if reached >= u64::from(wanted) { Ok((answers, Some(reached))) } else { Err(StoreError::NotReplicated) }
    }

    /// All of it on one connection, to the node that holds the key.
    async fn pipeline(&self, key: &str, pipeline: Pipeline) -> Result<Vec<Value>, Failure> {
        let line = &self.durable;
        let (generation, mut connection) =
            line.get().await.map_err(|error| Failure { verdict: Verdict::Refused, error })?;
        let count = pipeline.len();
        let answers = match &mut connection {
            Connection::Node(node) => node.req_packed_commands(&pipeline, 0, count).await,
            Connection::Cluster(cluster) => cluster.route_pipeline(pipeline, 0, count, primary_of(key)).await,
        };
        let answers = answers.and_then(|answers| answers.into_iter().map(Value::extract_error).collect());
        answers.map_err(|error| failed(line, generation, &error))
    }

    /// How many replicas must hold a write to this key: as configured, or one, where the primary has any.
    async fn wanted_replicas(&self, key: &str) -> Result<Option<u32>, StoreError> {
        match self.replicas {
            Some(0) => Ok(None),
            Some(wanted) => Ok(Some(wanted)),
            None => Ok((self.count_replicas(key).await? > 0).then_some(1)),
        }
    }

    async fn count_replicas(&self, key: &str) -> Result<u64, StoreError> {
        let single = matches!(self.durable.get().await?.1, Connection::Node(_));
        let counted = *self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, count)) = counted
            && single
            && at.elapsed() < COUNT_HOLDS
        {
            return Ok(count);
        }
        let info: String = self.at_node_of(key, cmd("INFO").arg("replication")).await?;
        let count = connected_replicas(&info);
        *self.counted.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), count));
        Ok(count)
    }

    /// A command without a key, at the node that holds one.
    pub(super) async fn at_node_of<T: FromRedisValue>(&self, key: &str, command: &mut Cmd) -> Result<T, StoreError> {
        let (generation, mut connection) = self.durable.get().await?;
        let answer = match &mut connection {
            Connection::Node(node) => command.query_async::<Value>(node).await,
            Connection::Cluster(cluster) => {
                cluster.route_command(command.clone(), RoutingInfo::SingleNode(primary_of(key))).await
            }
        };
        let parsed = answer.and_then(|value| from_redis_value(value).map_err(RedisError::from));
        parsed.map_err(|error| failed(&self.durable, generation, &error).error)
    }

    /// The rest of a revocation, once it is written down: the records go, then the event is out; replicas hold both.
    pub(super) async fn carry_out(&self, name: &str, intent: &Intent) -> Result<Revocation, StoreError> {
        let tombstone = intent.tombstone_ms.to_string();
        // In a cluster every key may be on another node.
        let at_once = if matches!(self.durable.get().await?.1, Connection::Node(_)) { AT_ONCE } else { 1 };
        let parts = try_join_all(intent.keys.chunks(at_once).map(|keys| self.bury(keys, &tombstone))).await?;
        let mut removed = Vec::with_capacity(intent.keys.len());
        let mut replicas = None;
        for (part, held_by) in parts {
            removed.extend(part);
            replicas = fewer(replicas, held_by);
        }
        let arguments = publish_arguments(&intent.event, name).map(Cow::from).to_vec();
        let call = Call { keys: vec![self.stream.clone(), self.pending.clone()], arguments };
        let (answers, held_by) = self.all_durably(&scripts::PUBLISH, std::slice::from_ref(&call)).await?;
        let id: String = from_redis_value(answers.into_iter().next().unwrap_or(Value::Nil))
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(Revocation { removed, event: parse_id(&id)?, replicas: fewer(replicas, held_by) })
    }

    /// Removes documents and puts their tombstones.
    async fn bury(&self, keys: &[Key], tombstone: &str) -> Result<(Vec<Option<Fields>>, Option<u64>), StoreError> {
        let call =
            |key: &Key| Call { keys: vec![self.key(key), self.tombstone(key)], arguments: vec![Cow::from(tombstone)] };
        let calls: Vec<Call<'_>> = keys.iter().map(call).collect();
        let (answers, replicas) = self.all_durably(&scripts::BURY, &calls).await?;
        let fields = |answer| {
            let fields: Fields = from_redis_value(answer)
                .map_err(|error: redis::ParsingError| StoreError::Corrupt(error.to_string()))?;
            Ok((!fields.is_empty()).then_some(fields))
        };
        Ok((answers.into_iter().map(fields).collect::<Result<_, StoreError>>()?, replicas))
    }
}

fn primary_of(key: &str) -> SingleNodeRoutingInfo {
    SingleNodeRoutingInfo::SpecificNode(Route::with_key(key, SlotAddr::Master))
}
