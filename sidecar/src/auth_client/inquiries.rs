//! Questions about tokens. What comes together is asked together: the way to the auth service and back costs more than an answer does.

use std::sync::{Arc, Mutex};

use cloakroom_protocol::internal_api::{IntrospectForm, IntrospectMany, MOST_TOKENS};
use cloakroom_protocol::introspection::Introspection;
use cloakroom_protocol::presented::Presented;
use cloakroom_protocol::token::OpaqueToken;
use http::StatusCode;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::calls::{Answered, CallError};
use super::{AuthClient, lock, postbox};
use crate::config::Policy;
use crate::token_cache::{Fingerprint, Question};

/// Requests under way at a time. What comes meanwhile shares the next one.
pub const UNDERWAY: usize = 2;

#[derive(Default)]
pub struct Inquiries {
    waiting: Mutex<Vec<Inquiry>>,
    came: Arc<Notify>,
}

/// What a flight asks.
pub struct Inquiry {
    token: Presented,
    fingerprint: Fingerprint,
    /// From 1.
    attempt: usize,
    since: Instant,
}

/// What questions that are put at the same moment have in common.
pub struct Occasion {
    pub question: Question,
    pub asked: Instant,
    pub policy: Arc<Policy>,
}

/// An answer, and what it is to be judged by.
pub struct Told {
    pub answered: Answered<Introspection>,
    pub occasion: Arc<Occasion>,
}

pub type Answer = Result<Told, Arc<CallError>>;

impl Inquiry {
    pub fn new(token: OpaqueToken, fingerprint: Fingerprint) -> Self {
        Self { token: Presented::Ours(token), fingerprint, attempt: 1, since: Instant::now() }
    }
}

impl Inquiries {
    fn take(&self, most: usize) -> Vec<Inquiry> {
        let mut waiting = lock(&self.waiting);
        if waiting.len() <= most {
            return std::mem::take(&mut waiting);
        }
        // For the next who asks.
        self.came.notify_one();
        waiting.drain(..most).collect()
    }
}

impl AuthClient {
    /// From any thread.
    pub(super) fn inquire(&self, inquiry: Inquiry) {
        lock(&self.inquiries.waiting).push(inquiry);
        postbox::wake(&self.inquiries.came);
    }

    /// Without waiting for others to ask with.
    pub(super) async fn ask_alone(&self, token: &Presented) -> Answer {
        let occasion = self.occasion()?;
        let Occasion { question, policy, .. } = &*occasion;
        let form =
            IntrospectForm { token: token.expose().to_owned(), policy: policy.policy.to_string(), idle_for: None };
        let answered = self.calls.introspect(policy, &form, question.stream()).await?;
        Ok(Told { answered, occasion })
    }

    /// One request after the other; runs for as long as the process does, [`UNDERWAY`] times.
    pub(super) async fn put_inquiries(self: Arc<Self>) {
        loop {
            let batch = self.inquiries.take(MOST_TOKENS);
            if batch.is_empty() {
                // Remembered if it comes before this.
                self.inquiries.came.notified().await;
            } else {
                self.put(batch).await;
            }
        }
    }

    /// To be taken before a question is under way, so that whatever happens from then on is held against its answer.
    fn occasion(&self) -> Result<Arc<Occasion>, Arc<CallError>> {
        let policy = self.policy.load_full().ok_or_else(|| Arc::new(CallError::NotConnected("no config".into())))?;
        Ok(Arc::new(Occasion { question: self.cache.question(), asked: Instant::now(), policy }))
    }

    async fn put(self: &Arc<Self>, batch: Vec<Inquiry>) {
        match <[Inquiry; 1]>::try_from(batch) {
            Ok([only]) => self.put_one(only).await,
            Err(several) => self.put_many(several).await,
        }
    }

    async fn put_one(&self, inquiry: Inquiry) {
        match self.ask_alone(&inquiry.token).await {
            Ok(told) => self.conclude([inquiry], [Ok(told)]),
            Err(error) => self.unanswered(vec![inquiry], &error),
        }
    }

    async fn put_many(self: &Arc<Self>, batch: Vec<Inquiry>) {
        let occasion = match self.occasion() {
            Ok(occasion) => occasion,
            Err(error) => return self.unanswered(batch, &error),
        };
        let tokens = batch.iter().map(|inquiry| inquiry.token.expose().to_owned()).collect();
        let body = IntrospectMany { policy: occasion.policy.policy.to_string(), tokens };
        match self.calls.introspect_many(&occasion.policy, &body, occasion.question.stream()).await {
            Ok(answers) => {
                let told = |answered| Told { answered, occasion: occasion.clone() };
                let answer = |answered: Option<_>| answered.map(told).ok_or_else(|| Arc::new(CallError::Unanswered));
                self.conclude(batch, answers.into_iter().map(answer));
            }
            // An auth service of before this way of asking, or answers that are too large together.
            Err(error) if matches!(error, CallError::TooLarge) || error.status() == Some(StatusCode::NOT_FOUND) => {
                for inquiry in batch {
                    let this = Arc::clone(self);
                    tokio::spawn(async move { this.put_one(inquiry).await });
                }
            }
            Err(error) => self.unanswered(batch, &error.into()),
        }
    }

    /// Whoever waits behind a question that hangs has waited as long.
    fn unanswered(&self, mut batch: Vec<Inquiry>, error: &Arc<CallError>) {
        if matches!(**error, CallError::Timeout) {
            batch.extend(self.inquiries.take(usize::MAX));
        }
        self.conclude(batch, std::iter::repeat_with(|| Err(error.clone())));
    }

    /// Everything is judged before anybody is told, so that those who wait wake up once.
    fn conclude(&self, batch: impl IntoIterator<Item = Inquiry>, answers: impl IntoIterator<Item = Answer>) {
        let judge = |(inquiry, answer): (Inquiry, Answer)| {
            let outcome = self.judge(&inquiry.token, inquiry.fingerprint, (inquiry.attempt, inquiry.since), answer);
            (inquiry, outcome)
        };
        let judged: Vec<_> = batch.into_iter().zip(answers).map(judge).collect();
        for (inquiry, outcome) in judged {
            let again = match outcome {
                Some(outcome) => self.land(&inquiry.fingerprint, &outcome).then_some(1),
                None => Some(inquiry.attempt + 1),
            };
            if let Some(attempt) = again {
                self.inquire(Inquiry { attempt, since: Instant::now(), ..inquiry });
            }
        }
    }
}
