//! A client that keeps cookies and follows redirects as browsers do, one step at a time.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use reqwest::header::{ACCEPT, COOKIE, LOCATION, SET_COOKIE};
use reqwest::{Method, StatusCode};
use url::Url;

use crate::html::Form;
use crate::local::Local;

const MOST_REDIRECTS: usize = 15;

/// A browser with a jar of its own. Loopback counts as secure, as in real browsers.
pub struct Browser {
    http: reqwest::Client,
    /// (host, name) → value; cookies know no ports (RFC 6265 §8.5).
    jar: BTreeMap<(String, String), String>,
}

/// The page at the end of a chain of redirects.
#[derive(Debug)]
pub struct Page {
    pub url: Url,
    pub status: StatusCode,
    pub body: String,
    /// Every response on the way, the last included: status, URL, `Set-Cookie` lines.
    pub way: Vec<Step>,
}

#[derive(Debug)]
pub struct Step {
    pub url: Url,
    pub status: StatusCode,
    pub set_cookies: Vec<String>,
}

impl Browser {
    pub fn new() -> Result<Self> {
        Ok(Self { http: crate::local::client()?, jar: BTreeMap::new() })
    }

    /// Loads a page and follows redirects.
    pub async fn open(&mut self, url: &str) -> Result<Page> {
        self.load(Method::GET, url.parse()?, None).await
    }

    /// Sends a form of a page.
    pub async fn submit(&mut self, page: &Page, form: &Form) -> Result<Page> {
        let url = page.url.join(&form.action)?;
        self.load(Method::POST, url, Some(form.fields.clone())).await
    }

    /// Opens a page of the app, signs in as the demo user where the way leads, and returns the page that was asked for.
    pub async fn sign_in(&mut self, local: &Local, path: &str) -> Result<Page> {
        let page = self.open(&local.app(path)).await?;
        self.fill_in(&page, &local.ready.username, &local.ready.password).await
    }

    /// Sends the sign-in form of a page.
    pub async fn fill_in(&mut self, page: &Page, username: &str, password: &str) -> Result<Page> {
        let mut form = Form::with_password(&page.body).with_context(|| format!("no sign-in form: {page:?}"))?;
        form.set_text(username)?;
        form.set_password(password)?;
        self.submit(page, &form).await
    }

    /// One request without following anything.
    pub async fn send(
        &mut self,
        method: Method,
        url: Url,
        form: Option<&[(String, String)]>,
    ) -> Result<reqwest::Response> {
        let host = url.host_str().context("no host")?.to_owned();
        let mut request =
            self.http.request(method, url.clone()).header(ACCEPT, "text/html,application/xhtml+xml,*/*;q=0.8");
        request = request.header("Sec-Fetch-Mode", "navigate").header("Sec-Fetch-Dest", "document");
        let cookies: Vec<_> = self
            .jar
            .iter()
            .filter(|((h, _), _)| *h == host)
            .map(|((_, name), value)| format!("{name}={value}"))
            .collect();
        if !cookies.is_empty() {
            request = request.header(COOKIE, cookies.join("; "));
        }
        if let Some(form) = form {
            request = request.form(form).header("Origin", url.origin().ascii_serialization());
        }
        let answer = request.send().await?;
        for line in answer.headers().get_all(SET_COOKIE) {
            self.keep(&host, line.to_str()?)?;
        }
        Ok(answer)
    }

    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.jar.iter().find(|((_, n), _)| n == name).map(|(_, value)| value.as_str())
    }

    pub fn cookie_names(&self) -> Vec<&str> {
        self.jar.keys().map(|(_, name)| name.as_str()).collect()
    }

    pub fn set_cookie(&mut self, host: &str, name: &str, value: &str) {
        self.jar.insert((host.to_owned(), name.to_owned()), value.to_owned());
    }

    pub fn forget_cookies(&mut self, prefix: &str) {
        self.jar.retain(|(_, name), _| !name.starts_with(prefix));
    }

    async fn load(
        &mut self,
        mut method: Method,
        mut url: Url,
        mut form: Option<Vec<(String, String)>>,
    ) -> Result<Page> {
        let mut way = Vec::new();
        for _ in 0..MOST_REDIRECTS {
            let answer = self.send(method.clone(), url.clone(), form.as_deref()).await?;
            let status = answer.status();
            let set_cookies = answer.headers().get_all(SET_COOKIE);
            let set_cookies =
                set_cookies.iter().map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned()).collect();
            way.push(Step { url: url.clone(), status, set_cookies });
            let Some(location) = answer.headers().get(LOCATION).filter(|_| status.is_redirection()) else {
                return Ok(Page { url, status, body: answer.text().await?, way });
            };
            url = url.join(location.to_str()?)?;
            if !matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT) {
                method = Method::GET;
                form = None;
            }
        }
        bail!("a loop of redirects: {way:#?}")
    }

    fn keep(&mut self, host: &str, line: &str) -> Result<()> {
        let mut parts = line.split(';').map(str::trim);
        let (name, value) = parts.next().and_then(|pair| pair.split_once('=')).context("not a cookie")?;
        let attributes: Vec<String> = parts.map(str::to_ascii_lowercase).collect();
        let has = |wanted: &str| attributes.iter().any(|a| a == wanted);
        if name.starts_with("__Host-") {
            // A browser would drop it silently (RFC 6265bis §4.1.3.2).
            let sound = has("secure") && has("path=/") && !attributes.iter().any(|a| a.starts_with("domain"));
            ensure!(sound, "a browser refuses this cookie: {line}");
        }
        let key = (host.to_owned(), name.to_owned());
        let expired = has("max-age=0") || attributes.iter().any(|a| a.starts_with("expires=thu, 01 jan 1970"));
        if expired {
            self.jar.remove(&key);
        } else {
            self.jar.insert(key, value.to_owned());
        }
        Ok(())
    }
}
