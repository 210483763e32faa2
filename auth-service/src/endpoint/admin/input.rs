//! What administrators send, as path, query and JSON body; each mistake of theirs is a problem that names it.

use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, header};
use serde::de::{DeserializeOwned, Deserializer, Error};
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

use crate::app::Shared;
use crate::endpoint::internal::revoke::{MAX_WAIT, SETTLE_WITHIN};
use crate::endpoint::problem::ApiError;

/// Lists are no longer than anybody pages through.
const MAX_OFFSET: u64 = 1_000_000_000;
const MAX_LIMIT: u64 = 500;

pub struct InPath<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<Shared> for InPath<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, ApiError> {
        let Path(value) = Path::from_request_parts(parts, app)
            .await
            .map_err(|error| ApiError::BadRequest(format!("path: {}", error.body_text())))?;
        Ok(Self(value))
    }
}

pub struct InQuery<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Shared> for InQuery<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, ApiError> {
        let Query(value) = Query::from_request_parts(parts, app)
            .await
            .map_err(|error| ApiError::BadRequest(format!("query: {}", error.body_text())))?;
        Ok(Self(value))
    }
}

/// A JSON body that says so: a form that a browser was tricked into sending is not read as one.
pub struct InBody<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Shared> for InBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Shared) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(ApiError::UnsupportedMediaType);
        }
        let bytes = Bytes::from_request(request, app).await.map_err(|rejection| match rejection {
            BytesRejection::FailedToBufferBody(error) if error.status() == http::StatusCode::PAYLOAD_TOO_LARGE => {
                ApiError::TooLarge
            }
            other => ApiError::BadRequest(format!("body: {}", other.body_text())),
        })?;
        // A list would do for a struct, field by field.
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err(ApiError::BadRequest("body: a JSON object is needed".to_owned()));
        }
        serde_json::from_slice(&bytes).map(Self).map_err(|error| ApiError::BadRequest(format!("body: {error}")))
    }
}

pub fn is_json(headers: &HeaderMap) -> bool {
    let mut given = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(only), None) = (given.next(), given.next()) else { return false };
    let essence = only.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

/// Part of a list.
#[derive(Clone, Copy, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Paging {
    /// Items to pass over.
    #[serde(default, deserialize_with = "between::<_, 0, MAX_OFFSET>")]
    #[param(required = false, default = 0, minimum = 0, maximum = 1_000_000_000)]
    pub offset: u64,
    /// Items at most.
    #[serde(default = "default_limit", deserialize_with = "between::<_, 1, MAX_LIMIT>")]
    #[param(required = false, default = 100, minimum = 1, maximum = 500)]
    pub limit: u64,
}

pub fn default_limit() -> u64 {
    100
}

impl Paging {
    pub fn offset(self) -> usize {
        usize::try_from(self.offset).unwrap_or(usize::MAX)
    }

    pub fn limit(self) -> usize {
        usize::try_from(self.limit).unwrap_or(usize::MAX)
    }
}

/// How long an answer may wait for the receipt.
#[derive(Clone, Copy, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Wait {
    /// Milliseconds to wait until every connected sidecar has dropped what ends here.
    #[serde(default = "default_wait", deserialize_with = "between::<_, 0, MAX_WAIT>")]
    #[param(required = false, default = 500, minimum = 0, maximum = 30_000)]
    pub wait: u64,
}

fn default_wait() -> u64 {
    SETTLE_WITHIN
}

/// Takes a number of a query only within its bounds; beyond them is a mistake, not a wish for the nearest one.
pub fn between<'de, D, const MIN: u64, const MAX: u64>(deserializer: D) -> Result<u64, D::Error>
where
    D: Deserializer<'de>,
{
    let number = u64::deserialize(deserializer)?;
    if (MIN..=MAX).contains(&number) {
        Ok(number)
    } else {
        Err(D::Error::custom(format_args!("{number} is not within {MIN} and {MAX}")))
    }
}

/// A whole number as JSON has it: `5.0` is one, too (JSON Schema §6.1.1).
pub fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let Some(number) = Option::<serde_json::Number>::deserialize(deserializer)? else { return Ok(None) };
    let whole =
        number.as_u64().or_else(|| number.to_string().strip_suffix(".0").and_then(|digits| digits.parse().ok()));
    whole.map(Some).ok_or_else(|| D::Error::custom(format_args!("{number} is not a whole number")))
}

#[derive(Serialize, utoipa::ToSchema)]
pub struct List<T> {
    pub items: Vec<T>,
    /// Where the next page starts; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_offset: Option<usize>,
}

impl<T> List<T> {
    /// `held`: entries that the index gave for this page, of which some may have gone since.
    pub fn page(items: Vec<T>, held: usize, paging: Paging) -> Self {
        let next_offset = (held == paging.limit()).then(|| paging.offset() + held);
        Self { items, next_offset }
    }
}
