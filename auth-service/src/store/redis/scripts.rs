//! The atomic changes, as Lua. Every script touches the keys of one tag only.
//!
//! With its memory full, Redis refuses a script at its first command that could take some, but not one that has already freed some. What
//! revokes begins by removing, so that people can be signed out all the same.

use std::sync::OnceLock;

use redis::{Cmd, cmd};

/// A script, sent by its digest; by its text where the server does not know it yet.
pub(super) struct Script {
    text: &'static str,
    digest: OnceLock<String>,
    /// Running it twice is as good as once, or at worst tells of an event twice.
    repeatable: bool,
}

impl Script {
    pub(super) fn is_repeatable(&self) -> bool {
        self.repeatable
    }

    pub(super) fn call(&self, keys: &[&str], arguments: &[&str], by_text: bool) -> Cmd {
        let mut command = if by_text { cmd("EVAL") } else { cmd("EVALSHA") };
        if by_text {
            command.arg(self.text);
        } else {
            command.arg(self.digest.get_or_init(|| redis::Script::new(self.text).get_hash().to_owned()));
        }
        command.arg(keys.len()).arg(keys).arg(arguments);
        command
    }
}

/// KEYS document, tombstone; ARGV ttl in ms or empty, then field and value in turn.
pub(super) static CREATE: Script = Script {
    text: "
if redis.call('EXISTS', KEYS[2]) == 1 then return 'dead' end
if redis.call('EXISTS', KEYS[1]) == 1 then return 'exists' end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
if ARGV[1] ~= '' then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return 'yes'",
    digest: OnceLock::new(),
    repeatable: false,
};

/// KEYS document, tombstone; ARGV `update` or `upsert`, ttl, how many conditions, values and removals; then conditions as field, whether
/// it must be there, value; then fields and values; then fields to remove.
pub(super) static CHANGE: Script = Script {
    text: "
if redis.call('EXISTS', KEYS[2]) == 1 then return 'missing' end
if ARGV[1] == 'update' and redis.call('EXISTS', KEYS[1]) == 0 then return 'missing' end
local at = 6
for _ = 1, tonumber(ARGV[3]) do
  local held = redis.call('HGET', KEYS[1], ARGV[at])
  if ARGV[at + 1] == '1' then
    if held ~= ARGV[at + 2] then return 'conflict' end
  elseif held then
    return 'conflict'
  end
  at = at + 3
end
for _ = 1, tonumber(ARGV[4]) do
  redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1])
  at = at + 2
end
for _ = 1, tonumber(ARGV[5]) do
  redis.call('HDEL', KEYS[1], ARGV[at])
  at = at + 1
end
if ARGV[2] ~= '' then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 'yes'",
    digest: OnceLock::new(),
    repeatable: false,
};

/// KEYS document.
pub(super) static TAKE: Script = Script {
    text: "
local fields = redis.call('HGETALL', KEYS[1])
redis.call('DEL', KEYS[1])
return fields",
    digest: OnceLock::new(),
    repeatable: false,
};

/// KEYS document, tombstone; ARGV life of the tombstone in ms.
pub(super) static BURY: Script = Script {
    text: "
local fields = redis.call('HGETALL', KEYS[1])
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[2], '1', 'PX', ARGV[1])
return fields",
    digest: OnceLock::new(),
    repeatable: true,
};

/// KEYS index, guard; ARGV member, ttl in ms or empty, guarded field or empty, its value.
pub(super) static INDEX_ADD: Script = Script {
    text: "
if ARGV[3] ~= '' and redis.call('HGET', KEYS[2], ARGV[3]) ~= ARGV[4] then return 0 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local score = '+inf'
if ARGV[2] ~= '' then score = string.format('%.0f', now + tonumber(ARGV[2])) end
redis.call('ZADD', KEYS[1], score, ARGV[1])
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
if last[2] == 'inf' then redis.call('PERSIST', KEYS[1]) else redis.call('PEXPIREAT', KEYS[1], last[2]) end
return 1",
    digest: OnceLock::new(),
    repeatable: true,
};

/// KEYS index; ARGV offset, limit (-1: all).
pub(super) static INDEX_LIST: Script = Script {
    text: "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
return redis.call('ZRANGEBYSCORE', KEYS[1], string.format('(%.0f', now), '+inf', 'LIMIT', ARGV[1], ARGV[2])",
    digest: OnceLock::new(),
    repeatable: true,
};

/// KEYS counter; ARGV window in ms.
pub(super) static HIT: Script = Script {
    text: "
local count = redis.call('INCR', KEYS[1])
if count == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return count",
    digest: OnceLock::new(),
    repeatable: true,
};

/// KEYS stream, pending; ARGV name, data, length kept, life of the stream in ms, intent to strike off or empty.
pub(super) static PUBLISH: Script = Script {
    text: "
redis.call('HDEL', KEYS[2], ARGV[5])
local id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], '*', 'n', ARGV[1], 'd', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return id",
    digest: OnceLock::new(),
    repeatable: true,
};

/// KEYS trail; ARGV length kept, life in ms, then lines.
pub(super) static TRAIL_ADD: Script = Script {
    text: "
for at = 3, #ARGV do redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'l', ARGV[at]) end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1",
    digest: OnceLock::new(),
    repeatable: true,
};

/// KEYS stream; ARGV life of the stream in ms. Makes sure that there is an entry, so that every reader has a place to resume at.
pub(super) static TAIL: Script = Script {
    text: "
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
local id
if last[1] then id = last[1][1] else id = redis.call('XADD', KEYS[1], '*', 'n', 'start', 'd', '{}') end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return id",
    digest: OnceLock::new(),
    repeatable: true,
};

/// KEYS hash; ARGV field, value, life in ms. Stamped with the server's time, which all replicas share.
pub(super) static STAMP: Script = Script {
    text: "
redis.call('HDEL', KEYS[1], ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now) .. '|' .. ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1",
    digest: OnceLock::new(),
    repeatable: true,
};

/// KEYS hash; ARGV age in ms, `younger` or `older`. Field and value in turn; what is too old for a `younger` question is removed.
pub(super) static STAMPED: Script = Script {
    text: "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local all = redis.call('HGETALL', KEYS[1])
local found = {}
for at = 1, #all, 2 do
  local bar = string.find(all[at + 1], '|', 1, true)
  local old = tonumber(string.sub(all[at + 1], 1, bar - 1)) + tonumber(ARGV[1]) <= now
  if old == (ARGV[2] == 'older') then
    found[#found + 1] = all[at]
    found[#found + 1] = string.sub(all[at + 1], bar + 1)
  elseif old then
    redis.call('HDEL', KEYS[1], all[at])
  end
end
return found",
    digest: OnceLock::new(),
    repeatable: true,
};
