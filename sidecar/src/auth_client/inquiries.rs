//! Questions about tokens. What comes together is asked together: the way to the auth service and back costs more than an answer does.

use std::sync::{Arc, Mutex};

use cloakroom_protocol::internal_api::{IntrospectForm, IntrospectMany, MOST_TOKENS};
use cloakroom_protocol::introspection::Introspection;
use cloakroom_protocol::presented::{ForeignToken, Presented};
use cloakroom_protocol::token::OpaqueToken;
use http::StatusCode;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::Instant;

use super::calls::{Answered, CallError};
use super::exchange::Known;
use super::{AuthClient, lock};
use crate::config::Policy;
use crate::token_cache::{Fingerprint, Question};

/// Requests under way at a time. What comes meanwhile shares the next one.
const UNDERWAY: usize = 2;

#[derive(Default)]
pub struct Inquiries {
    /// Flights that workers have asked for. One wake-up is enough for all that are in the list.
    departing: Mutex<Vec<(Presented, Fingerprint, Known)>>,
    waiting: Mutex<Vec<Inquiry>>,
    came: Notify,
}

struct Inquiry {
    token: OpaqueToken,
    tell: oneshot::Sender<Result<Told, Arc<CallError>>>,
}

/// An answer, and what it is to be judged by.
pub struct Told {
    pub answered: Answered<Introspection>,
    pub occasion: Occasion,
}

/// What questions that are put at the same moment have in common.
#[derive(Clone)]
pub struct Occasion {
    pub question: Question,
    pub asked: Instant,
    pub policy: Arc<Policy>,
}

impl Inquiries {
    fn take(&self, most: usize) -> Vec<Inquiry> {
        let mut waiting = lock(&self.waiting);
        let count = waiting.len().min(most);
        waiting.drain(..count).collect()
    }
}

impl Inquiry {
    fn tell(self, occasion: &Occasion, answer: Result<Answered<Introspection>, Arc<CallError>>) {
        let told = answer.map(|answered| Told { answered, occasion: occasion.clone() });
        // Who asked may have gone.
        let _ = self.tell.send(told);
    }
}

impl AuthClient {
    /// From any thread.
    pub(super) fn depart(&self, token: Presented, fingerprint: Fingerprint, known: Known) {
        lock(&self.inquiries.departing).push((token, fingerprint, known));
        self.inquiries.came.notify_one();
    }

    pub(super) async fn inquire(&self, token: &OpaqueToken) -> Result<Told, Arc<CallError>> {
        let (tell, told) = oneshot::channel();
        lock(&self.inquiries.waiting).push(Inquiry { token: token.clone(), tell });
        self.inquiries.came.notify_one();
        told.await.unwrap_or_else(|_| Err(Arc::new(CallError::NotConnected("shutting down".into()))))
    }

    /// About another issuer's token: who has to ask that issuer first keeps nobody else waiting.
    pub(super) async fn inquire_alone(&self, token: &ForeignToken) -> Result<Told, Arc<CallError>> {
        let occasion = self.occasion()?;
        let answered = self.answer(token.expose(), &occasion).await?;
        Ok(Told { answered, occasion })
    }

    /// Runs for as long as the process does.
    pub(super) async fn put_inquiries(self: Arc<Self>) {
        let places = Arc::new(Semaphore::new(UNDERWAY));
        loop {
            self.inquiries.came.notified().await;
            for (token, fingerprint, known) in std::mem::take(&mut *lock(&self.inquiries.departing)) {
                tokio::spawn(Arc::clone(&self).fly(token, fingerprint, known));
            }
            // They are about to put their questions in the list.
            tokio::task::yield_now().await;
            while let Ok(place) = Arc::clone(&places).try_acquire_owned() {
                let batch = self.inquiries.take(MOST_TOKENS);
                if batch.is_empty() {
                    break;
                }
                let this = Arc::clone(&self);
                tokio::spawn(async move {
                    this.put(batch).await;
                    drop(place);
                    this.inquiries.came.notify_one();
                });
            }
        }
    }

    /// To be taken before a question is under way, so that whatever happens from then on is held against its answer.
    fn occasion(&self) -> Result<Occasion, Arc<CallError>> {
        let policy = self.policy.load_full().ok_or_else(|| Arc::new(CallError::NotConnected("no config".into())))?;
        Ok(Occasion { question: self.cache.question(), asked: Instant::now(), policy })
    }

    async fn answer(&self, token: &str, occasion: &Occasion) -> Result<Answered<Introspection>, CallError> {
        let Occasion { question, policy, .. } = occasion;
        let form = IntrospectForm { token: token.to_owned(), policy: policy.policy.to_string(), idle_for: None };
        self.calls.introspect(policy, &form, question.stream()).await
    }

    async fn put(self: &Arc<Self>, batch: Vec<Inquiry>) {
        let occasion = match self.occasion() {
            Ok(occasion) => occasion,
            Err(none) => return batch.into_iter().for_each(|inquiry| drop(inquiry.tell.send(Err(none.clone())))),
        };
        match <[Inquiry; 1]>::try_from(batch) {
            Ok([only]) => self.put_one(only, &occasion).await,
            Err(several) => self.put_many(several, occasion).await,
        }
    }

    async fn put_one(&self, inquiry: Inquiry, occasion: &Occasion) {
        let answer = self.answer(inquiry.token.expose(), occasion).await;
        inquiry.tell(occasion, answer.map_err(|error| self.failed(error)));
    }

    async fn put_many(self: &Arc<Self>, batch: Vec<Inquiry>, occasion: Occasion) {
        let tokens = batch.iter().map(|inquiry| inquiry.token.expose().to_owned()).collect();
        let body = IntrospectMany { policy: occasion.policy.policy.to_string(), tokens };
        match self.calls.introspect_many(&occasion.policy, &body, occasion.question.stream()).await {
            Ok(answers) => {
                for (inquiry, answer) in batch.into_iter().zip(answers) {
                    inquiry.tell(&occasion, answer.ok_or_else(|| Arc::new(CallError::Unanswered)));
                }
            }
            // An auth service of before this way of asking, or answers that are too large together.
            Err(error) if matches!(error, CallError::TooLarge) || error.status() == Some(StatusCode::NOT_FOUND) => {
                let occasion = Arc::new(occasion);
                for inquiry in batch {
                    let (this, occasion) = (Arc::clone(self), Arc::clone(&occasion));
                    tokio::spawn(async move { this.put_one(inquiry, &occasion).await });
                }
            }
            Err(error) => {
                let error = self.failed(error);
                for inquiry in batch {
                    inquiry.tell(&occasion, Err(error.clone()));
                }
            }
        }
    }

    /// Whoever waits behind a question that hangs has waited as long.
    fn failed(&self, error: CallError) -> Arc<CallError> {
        let timed_out = matches!(error, CallError::Timeout);
        let error = Arc::new(error);
        if timed_out {
            for inquiry in self.inquiries.take(usize::MAX) {
                let _ = inquiry.tell.send(Err(error.clone()));
            }
        }
        error
    }
}
