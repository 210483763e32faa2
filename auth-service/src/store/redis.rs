//! Redis 6.2 or later: one server, Sentinel or Cluster.
//!
//! Three connections, so that nothing waits for what blocks: ordinary commands; durable writes, which wait for replicas; and the reader of
//! the event stream.

mod connect;
mod durable;
mod info;
mod scripts;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use redis::streams::{StreamRangeReply, StreamReadReply};
use redis::{Cmd, FromRedisValue, RedisError, Value, cmd, from_redis_value};
use serde::{Deserialize, Serialize};

use super::{
    Backlog, Created, Entry, EventId, Fields, Guard, Key, Revocation, Store, StoreError, StreamEntry, TRAIL_LENGTH,
    Update, Updated, from_json, to_json,
};
use crate::config::RedisConfig;
use connect::{Line, Verdict, judge};
use durable::Call;
use info::advice_from;
use scripts::Script;

/// An ordinary command that takes longer has failed.
const ANSWER: Duration = Duration::from_millis(1500);
/// Longest blocking read of the stream, and the time for its answer.
const MAX_BLOCK: Duration = Duration::from_secs(1);
/// How long a durable write waits for replicas.
const REPLICATION: Duration = Duration::from_secs(1);

/// Events kept, about: at a thousand revocations a second, a sidecar may be away for more than a minute.
const STREAM_LENGTH: &str = "100000";
const STREAM_LIFE: Duration = Duration::from_secs(7 * 86_400);
/// What a reader is given at most; one that has missed more starts over.
const MAX_BACKLOG: usize = 10_000;
/// A revocation that was begun and not finished for so long was left by its process.
const ABANDONED: Duration = Duration::from_secs(5);
const TRAIL_LIFE: Duration = Duration::from_secs(90 * 86_400);
const MARKS_LIFE: Duration = Duration::from_secs(60);

pub struct RedisStore {
    prefix: String,
    replicas: Option<u32>,
    commands: Line,
    durable: Line,
    /// Replicas of a single primary, and when they were counted.
    counted: Mutex<Option<(Instant, u64)>>,
    events: Line,
    stream: String,
    pending: String,
    marks: String,
    trail: String,
}

#[derive(Debug, thiserror::Error)]
pub enum RedisSetupError {
    #[error("{0}")]
    Setting(String),
    #[error(transparent)]
    Client(#[from] RedisError),
}

/// A revocation as written down before it begins, so that it is finished even if this process is not there to do so.
#[derive(Serialize, Deserialize)]
struct Intent {
    keys: Vec<Key>,
    tombstone_ms: u64,
    event: Entry,
}

impl RedisStore {
    /// Connects when first used: the service starts without Redis, too.
    pub fn new(config: &RedisConfig) -> Result<Self, RedisSetupError> {
        let event_key = |kind: &str| Key::new(kind, "events").render(&config.prefix);
        Ok(Self {
            prefix: config.prefix.clone(),
            replicas: config.revocation_replicas,
            commands: Line::new(config, ANSWER)?,
            durable: Line::new(config, ANSWER + REPLICATION)?,
            counted: Mutex::default(),
            events: Line::new(config, ANSWER + MAX_BLOCK)?,
            stream: event_key("stream"),
            pending: event_key("pending"),
            marks: event_key("marks"),
            trail: Key::new("trail", "audit").render(&config.prefix),
        })
    }

    fn key(&self, key: &Key) -> String {
        key.render(&self.prefix)
    }

    fn tombstone(&self, key: &Key) -> String {
        format!("{}:dead", key.render(&self.prefix))
    }

    /// Runs a command that may be repeated without harm.
    async fn read_command<T: FromRedisValue>(&self, line: &Line, command: &Cmd) -> Result<T, StoreError> {
        match self.attempt(line, command).await {
            Err(Failure { verdict: Verdict::WrongServer | Verdict::Lost, .. }) => {
                self.attempt(line, command).await.map_err(|failure| failure.error)
            }
            other => other.map_err(|failure| failure.error),
        }
    }

    /// Runs a script. If nobody knows whether it was executed, only one that may be repeated without harm is.
    async fn script<T: FromRedisValue>(
        &self,
        line: &Line,
        script: &Script,
        keys: &[&str],
        arguments: &[&str],
    ) -> Result<T, StoreError> {
        let mut by_text = false;
        let mut again = false;
        loop {
            match self.attempt(line, &script.call(keys, arguments, by_text)).await {
                Err(Failure { verdict: Verdict::NoScript, .. }) if !by_text => by_text = true,
                Err(Failure { verdict: Verdict::WrongServer, .. }) if !again => again = true,
                Err(Failure { verdict: Verdict::Lost, .. }) if !again && script.is_repeatable() => again = true,
                other => return other.map_err(|failure| failure.error),
            }
        }
    }

    async fn attempt<T: FromRedisValue>(&self, line: &Line, command: &Cmd) -> Result<T, Failure> {
        let (generation, mut connection) =
            line.get().await.map_err(|error| Failure { verdict: Verdict::Refused, error })?;
        let answer: Result<Value, RedisError> = command.query_async(&mut connection).await;
        let parsed = answer.and_then(|value| from_redis_value(value).map_err(RedisError::from));
        parsed.map_err(|error| failed(line, generation, &error))
    }

    async fn append(&self, entry: &Entry) -> Result<EventId, StoreError> {
        let arguments = publish_arguments(entry, "");
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let id: String =
            self.script(&self.commands, &scripts::PUBLISH, &[&self.stream, &self.pending], &arguments).await?;
        parse_id(&id)
    }

    fn creation<'a>(&self, key: &Key, fields: &'a [(String, String)], ttl: Option<Duration>) -> Call<'a> {
        let mut arguments = vec![Cow::from(ttl.map(milliseconds).unwrap_or_default())];
        arguments
            .extend(fields.iter().flat_map(|(field, value)| [Cow::from(field.as_str()), Cow::from(value.as_str())]));
        Call { keys: vec![self.key(key), self.tombstone(key)], arguments }
    }

    fn change<'a>(&self, mode: &'a str, key: &Key, update: &'a Update) -> Call<'a> {
        let ttl = update.ttl.map(|ttl| ttl.as_millis().to_string()).unwrap_or_default();
        let counts =
            [update.require.len(), update.set.len(), update.unset.len()].map(|count| Cow::from(count.to_string()));
        let mut arguments: Vec<Cow<'a, str>> = vec![Cow::from(mode), Cow::from(ttl)];
        arguments.extend(counts);
        for (field, value) in &update.require {
            let given = if value.is_some() { "1" } else { "0" };
            arguments.extend([Cow::from(field.as_str()), Cow::from(given), Cow::from(value.as_deref().unwrap_or(""))]);
        }
        for (field, value) in &update.set {
            arguments.extend([Cow::from(field.as_str()), Cow::from(value.as_str())]);
        }
        arguments.extend(update.unset.iter().map(|field| Cow::from(field.as_str())));
        Call { keys: vec![self.key(key), self.tombstone(key)], arguments }
    }

    async fn call<T: FromRedisValue>(&self, script: &Script, call: &Call<'_>) -> Result<T, StoreError> {
        let keys: Vec<&str> = call.keys.iter().map(String::as_str).collect();
        let arguments: Vec<&str> = call.arguments.iter().map(AsRef::as_ref).collect();
        self.script(&self.commands, script, &keys, &arguments).await
    }
}

fn created(word: &str) -> Created {
    match word {
        "dead" => Created::Dead,
        "exists" => Created::Exists,
        _ => Created::Yes,
    }
}

fn updated(word: &str) -> Result<Updated, StoreError> {
    match word {
        "yes" => Ok(Updated::Yes),
        "conflict" => Ok(Updated::Conflict),
        "missing" => Ok(Updated::Missing),
        other => Err(StoreError::Corrupt(format!("a script answered {other:?}"))),
    }
}

/// With the intent that the event fulfils, or none.
fn publish_arguments(entry: &Entry, intent: &str) -> [String; 5] {
    let keep_for = STREAM_LIFE.as_millis().to_string();
    [entry.name.clone(), entry.data.clone(), STREAM_LENGTH.to_owned(), keep_for, intent.to_owned()]
}

struct Failure {
    verdict: Verdict,
    error: StoreError,
}

fn failed(line: &Line, generation: u64, error: &RedisError) -> Failure {
    let verdict = judge(error);
    if matches!(verdict, Verdict::WrongServer | Verdict::Lost) {
        line.give_up(generation);
    }
    Failure { verdict, error: StoreError::Unavailable(error.to_string()) }
}

fn fewer(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn parse_id(id: &str) -> Result<EventId, StoreError> {
    id.parse().map_err(|error| StoreError::Corrupt(format!("event id {id:?}: {error}")))
}

fn parse_entry(id: &str, fields: &HashMap<String, Value>) -> Result<StreamEntry, StoreError> {
    let text = |name: &str| {
        let value = fields.get(name).cloned().unwrap_or(Value::Nil);
        from_redis_value::<String>(value).map_err(|error| StoreError::Corrupt(format!("event {id}: {error}")))
    };
    Ok(StreamEntry { id: parse_id(id)?, entry: Entry { name: text("n")?, data: text("d")? } })
}

fn milliseconds(duration: Duration) -> String {
    duration.as_millis().max(1).to_string()
}

#[async_trait]
impl Store for RedisStore {
    async fn create(
        &self,
        key: &Key,
        fields: Vec<(String, String)>,
        ttl: Option<Duration>,
    ) -> Result<Created, StoreError> {
        let done: String = self.call(&scripts::CREATE, &self.creation(key, &fields, ttl)).await?;
        Ok(created(&done))
    }

    async fn create_durably(
        &self,
        key: &Key,
        fields: Vec<(String, String)>,
        ttl: Option<Duration>,
    ) -> Result<Created, StoreError> {
        let done: String = self.durably(&scripts::CREATE, &self.creation(key, &fields, ttl)).await?;
        Ok(created(&done))
    }

    async fn read(&self, key: &Key, fields: &[&str]) -> Result<Option<Vec<Option<String>>>, StoreError> {
        let values: Vec<Option<String>> =
            self.read_command(&self.commands, cmd("HMGET").arg(self.key(key)).arg(fields)).await?;
        Ok(values.iter().any(Option::is_some).then_some(values))
    }

    async fn read_all(&self, key: &Key) -> Result<Option<Fields>, StoreError> {
        let fields: Fields = self.read_command(&self.commands, cmd("HGETALL").arg(self.key(key))).await?;
        Ok((!fields.is_empty()).then_some(fields))
    }

    async fn update(&self, key: &Key, update: Update) -> Result<Updated, StoreError> {
        let done: String = self.call(&scripts::CHANGE, &self.change("update", key, &update)).await?;
        updated(&done)
    }

    async fn update_durably(&self, key: &Key, update: Update) -> Result<Updated, StoreError> {
        let done: String = self.durably(&scripts::CHANGE, &self.change("update", key, &update)).await?;
        updated(&done)
    }

    async fn upsert(&self, key: &Key, update: Update) -> Result<Updated, StoreError> {
        let done: String = self.call(&scripts::CHANGE, &self.change("upsert", key, &update)).await?;
        updated(&done)
    }

    async fn take(&self, key: &Key) -> Result<Option<Fields>, StoreError> {
        let fields: Fields = self.script(&self.commands, &scripts::TAKE, &[&self.key(key)], &[]).await?;
        Ok((!fields.is_empty()).then_some(fields))
    }

    async fn revoke(&self, keys: &[Key], tombstone: Duration, event: &Entry) -> Result<Revocation, StoreError> {
        let tombstone_ms = u64::try_from(tombstone.as_millis()).unwrap_or(u64::MAX);
        let intent = Intent { keys: keys.to_vec(), tombstone_ms, event: event.clone() };
        // The same revocation has the same name: repeating it does not pile up.
        let name = to_json(&intent);
        let life = STREAM_LIFE.as_millis().to_string();
        let () = self.script(&self.durable, &scripts::STAMP, &[&self.pending], &[&name, "", &life]).await?;
        self.carry_out(&name, &intent).await
    }

    async fn recover(&self) -> Result<usize, StoreError> {
        let age = ABANDONED.as_millis().to_string();
        let left: Vec<(String, String)> =
            self.script(&self.durable, &scripts::STAMPED, &[&self.pending], &[&age, "older"]).await?;
        for (name, _) in &left {
            match from_json::<Intent>("intent", name) {
                Ok(intent) => drop(self.carry_out(name, &intent).await?),
                // Of another version, which will see to it.
                Err(error) => tracing::warn!(%error, "an unfinished revocation is left alone"),
            }
        }
        Ok(left.len())
    }

    async fn is_dead(&self, key: &Key) -> Result<bool, StoreError> {
        self.read_command(&self.commands, cmd("EXISTS").arg(self.tombstone(key))).await
    }

    async fn index_add(
        &self,
        index: &Key,
        member: &str,
        ttl: Option<Duration>,
        guard: Option<Guard>,
    ) -> Result<bool, StoreError> {
        let name = self.key(index);
        let ttl = ttl.map(milliseconds).unwrap_or_default();
        let (guarded, field, value) = match &guard {
            Some(guard) => (self.key(&guard.key), guard.field.as_str(), guard.value.as_str()),
            None => (name.clone(), "", ""),
        };
        let arguments = [member, ttl.as_str(), field, value].map(Cow::from).to_vec();
        self.durably(&scripts::INDEX_ADD, &Call { keys: vec![name, guarded], arguments }).await
    }

    async fn index_list(&self, index: &Key, offset: usize, limit: usize) -> Result<Vec<String>, StoreError> {
        let limit = i64::try_from(limit).map_or_else(|_| "-1".to_owned(), |limit| limit.to_string());
        self.script(&self.commands, &scripts::INDEX_LIST, &[&self.key(index)], &[&offset.to_string(), &limit]).await
    }

    async fn index_remove(&self, index: &Key, member: &str) -> Result<(), StoreError> {
        self.read_command(&self.commands, cmd("ZREM").arg(self.key(index)).arg(member)).await
    }

    async fn hit(&self, counter: &Key, window: Duration) -> Result<u64, StoreError> {
        self.script(&self.commands, &scripts::HIT, &[&self.key(counter)], &[&milliseconds(window)]).await
    }

    async fn forget_hits(&self, counter: &Key) -> Result<(), StoreError> {
        self.read_command(&self.commands, cmd("DEL").arg(self.key(counter))).await
    }

    async fn publish(&self, entry: &Entry) -> Result<EventId, StoreError> {
        self.append(entry).await
    }

    async fn tail(&self) -> Result<EventId, StoreError> {
        let life = STREAM_LIFE.as_millis().to_string();
        let id: String = self.script(&self.events, &scripts::TAIL, &[&self.stream], &[&life]).await?;
        parse_id(&id)
    }

    async fn next_entries(&self, last: EventId, block: Duration) -> Result<Vec<StreamEntry>, StoreError> {
        let mut command = cmd("XREAD");
        command.arg("COUNT").arg(1000).arg("BLOCK").arg(milliseconds(block.min(MAX_BLOCK)));
        command.arg("STREAMS").arg(&self.stream).arg(last.to_string());
        let attempt = self.attempt::<Option<StreamReadReply>>(&self.events, &command).await;
        let reply = attempt.map_err(|failure| {
            // Whatever cut this connection has most likely cut the others.
            if failure.verdict == Verdict::Lost {
                self.commands.give_up_any();
                self.durable.give_up_any();
            }
            failure.error
        })?;
        let entries = reply.into_iter().flat_map(|reply| reply.keys).flat_map(|stream| stream.ids);
        entries.map(|entry| parse_entry(&entry.id, &entry.map)).collect()
    }

    async fn backlog(&self, last: EventId) -> Result<Backlog, StoreError> {
        let range = |from: String, to: &str, count: usize| {
            let mut command = cmd("XRANGE");
            command.arg(&self.stream).arg(from).arg(to).arg("COUNT").arg(count);
            command
        };
        let tail = self.tail().await?;
        let oldest: StreamRangeReply = self.read_command(&self.events, &range("-".to_owned(), "+", 1)).await?;
        let oldest = oldest.ids.first().map(|entry| parse_id(&entry.id)).transpose()?;
        // Trimmed past it, or the store has lost what came up to it.
        if last > tail || oldest.is_none_or(|oldest| last < oldest) {
            return Ok(Backlog::Gap { tail });
        }
        let since = range(format!("({last}"), "+", MAX_BACKLOG + 1);
        let reply: StreamRangeReply = self.read_command(&self.events, &since).await?;
        if reply.ids.len() > MAX_BACKLOG {
            return Ok(Backlog::Gap { tail });
        }
        let entries = reply.ids.iter().map(|entry| parse_entry(&entry.id, &entry.map));
        Ok(Backlog::Entries(entries.collect::<Result<_, _>>()?))
    }

    async fn set_mark(&self, replica: &str, mark: &str) -> Result<(), StoreError> {
        let life = MARKS_LIFE.as_millis().to_string();
        self.script(&self.commands, &scripts::STAMP, &[&self.marks], &[replica, mark, &life]).await
    }

    async fn marks(&self, max_age: Duration) -> Result<Fields, StoreError> {
        let age = max_age.as_millis().to_string();
        self.script(&self.commands, &scripts::STAMPED, &[&self.marks], &[&age, "younger"]).await
    }

    async fn trail_add(&self, lines: &[String]) -> Result<(), StoreError> {
        let (length, life) = (TRAIL_LENGTH.to_string(), TRAIL_LIFE.as_millis().to_string());
        let mut arguments = vec![length.as_str(), life.as_str()];
        arguments.extend(lines.iter().map(String::as_str));
        self.script(&self.commands, &scripts::TRAIL_ADD, &[&self.trail], &arguments).await
    }

    async fn trail(&self, before: Option<EventId>, limit: usize) -> Result<Vec<(EventId, String)>, StoreError> {
        let from = before.map_or("+".to_owned(), |before| format!("({before}"));
        let mut command = cmd("XREVRANGE");
        command.arg(&self.trail).arg(from).arg("-").arg("COUNT").arg(limit);
        let reply: StreamRangeReply = self.read_command(&self.commands, &command).await?;
        let line = |fields: &HashMap<String, Value>| {
            from_redis_value::<String>(fields.get("l").cloned().unwrap_or(Value::Nil))
                .map_err(|error| StoreError::Corrupt(format!("audit line: {error}")))
        };
        reply.ids.iter().map(|entry| Ok((parse_id(&entry.id)?, line(&entry.map)?))).collect()
    }

    async fn advice(&self) -> Result<Vec<String>, StoreError> {
        let mut info = String::new();
        for section in ["memory", "replication"] {
            let part: String = self.at_node_of(&self.stream, cmd("INFO").arg(section)).await?;
            info.push_str(&part);
        }
        Ok(advice_from(&info))
    }
}

#[cfg(test)]
mod tests;
