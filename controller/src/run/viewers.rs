//! Who may see the dashboard: those whom the API server knows by their token, and lets `get` its path.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client, Error};
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};
use tracing::debug;

use crate::words;

/// The path that a viewer has to be allowed to `get`. It is in no namespace, as the page is of all of them.
pub const PATH: &str = "/meltemi/dashboard";

/// How long a viewer is let in without another question: a token that is revoked is good for no longer.
const FRESH: Duration = Duration::from_secs(10);

/// How long a viewer who was let in is asked for before strangers are.
const FAMILIAR: Duration = Duration::from_secs(60);

/// How many viewers are remembered. Others are asked for at each of their requests.
const MOST: usize = 256;

/// How many questions are under way at a time for strangers, since anybody may send tokens; and as many for those who were
/// let in of late.
const AT_ONCE: usize = 4;

/// How many more of each may wait; who comes then is told so.
const WAITING: usize = 32;

/// How long a question may take, with the wait for its turn.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest token that is looked at.
const LONGEST: usize = 16 << 10;

/// What a token is remembered by.
type Fingerprint = [u8; 32];

/// Puts the API behind the question who asks. `role` is the ClusterRole that those need who may.
pub fn guarded(api: Router, client: Client, role: String) -> Router {
    let gate = Gate {
        client,
        role,
        viewers: Mutex::default(),
        strangers: Line::default(),
        familiar: Line::default(),
    };
    api.route_layer(from_fn_with_state(Arc::new(gate), enter))
}

/// Who is let in.
struct Gate {
    client: Client,
    role: String,
    viewers: Mutex<Viewers>,
    strangers: Line,
    familiar: Line,
}

/// Those for whom the API server is asked.
#[derive(Debug)]
struct Line {
    /// For all who are in it.
    room: Semaphore,
    /// For those whose turn it is.
    turns: Semaphore,
}

/// Why somebody is not.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    /// It is not known who it is.
    Unknown(String),
    /// It is one who may not.
    Forbidden(String),
    /// That cannot be found out.
    Unclear(String),
}

async fn enter(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    match gate.admit(request.headers()).await {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

impl Gate {
    async fn admit(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let token = token(headers)?;
        let fingerprint: Fingerprint = Sha256::digest(token).into();
        // It is good for no longer than from before the question.
        let now = Instant::now();
        let line = match self.viewers.lock().await.last(&fingerprint, now) {
            Some(age) if age < FRESH => return Ok(()),
            Some(_) => &self.familiar,
            None => &self.strangers,
        };
        let asking = async {
            let _turn = line.turn().await?;
            let user = authenticated(&self.client, token).await?;
            authorized(&self.client, &user, &self.role).await?;
            Ok(user)
        };
        let asked = timeout(PATIENCE, asking).await;
        let user = asked.unwrap_or_else(|_| Err(unclear(&format!("no answer within {PATIENCE:?}"))))?;
        debug!(user = user.username, "sees the dashboard");
        self.viewers.lock().await.add(fingerprint, now);
        Ok(())
    }
}

impl Default for Line {
    fn default() -> Self {
        Self { room: Semaphore::new(AT_ONCE + WAITING), turns: Semaphore::new(AT_ONCE) }
    }
}

impl Line {
    /// Waits until it is one's turn, which lasts as long as what is returned.
    async fn turn(&self) -> Result<[SemaphorePermit<'_>; 2], Refusal> {
        let full = |_| unclear("too many ask who they are; try again in a moment");
        let room = self.room.try_acquire().map_err(full)?;
        let turn = self.turns.acquire().await.map_err(|error| unclear(&error.to_string()))?;
        Ok([room, turn])
    }
}

/// The viewers who were let in of late.
#[derive(Debug, Default)]
struct Viewers(HashMap<Fingerprint, Instant>);

impl Viewers {
    /// How long ago it was, if that is known.
    fn last(&self, viewer: &Fingerprint, now: Instant) -> Option<Duration> {
        self.0.get(viewer).map(|since| now.duration_since(*since)).filter(|age| *age < FAMILIAR)
    }

    fn add(&mut self, viewer: Fingerprint, now: Instant) {
        self.0.retain(|_, since| now.duration_since(*since) < FAMILIAR);
        if self.0.len() < MOST || self.0.contains_key(&viewer) {
            self.0.insert(viewer, now);
        }
    }
}

/// The token of a request.
fn token(headers: &HeaderMap) -> Result<&str, Refusal> {
    let credentials = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = credentials.and_then(|credentials| {
        let (scheme, token) = credentials.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    match token {
        Some(token) if token.len() > LONGEST => {
            Err(Refusal::Unknown("the token is too long for one of an API server".to_owned()))
        }
        Some(token) if !token.is_empty() => Ok(token),
        _ => Err(Refusal::Unknown(
            "a token of the API server is needed, as in `Authorization: Bearer …`; `kubectl create token` makes one"
                .to_owned(),
        )),
    }
}

/// Whose token it is.
async fn authenticated(client: &Client, token: &str) -> Result<UserInfo, Refusal> {
    let spec = TokenReviewSpec { token: Some(token.to_owned()), audiences: None };
    let review = TokenReview { spec, ..TokenReview::default() };
    let reviews: Api<TokenReview> = Api::all(client.clone());
    let answer = reviews.create(&PostParams::default(), &review).await.map_err(|error| failed(&error))?;
    let status = answer.status.filter(|status| status.authenticated == Some(true));
    status.and_then(|status| status.user).ok_or_else(|| {
        let why = "the API server does not take the token: it is another cluster's, has expired or was revoked; `kubectl create token` makes one";
        Refusal::Unknown(why.to_owned())
    })
}

/// Whether they may see the dashboard.
async fn authorized(client: &Client, user: &UserInfo, role: &str) -> Result<(), Refusal> {
    let attributes = NonResourceAttributes { path: Some(PATH.to_owned()), verb: Some("get".to_owned()) };
    let spec = SubjectAccessReviewSpec {
        user: user.username.clone(),
        uid: user.uid.clone(),
        groups: user.groups.clone(),
        extra: user.extra.clone(),
        non_resource_attributes: Some(attributes),
        ..SubjectAccessReviewSpec::default()
    };
    let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    let answer = reviews.create(&PostParams::default(), &review).await.map_err(|error| failed(&error))?;
    match answer.status.is_some_and(|status| status.allowed) {
        true => Ok(()),
        false => Err(Refusal::Forbidden(format!(
            "{} may not see the dashboard: bind a ClusterRole that allows `get` on the non-resource URL {PATH}, such as \
             {role}",
            user.username.as_deref().unwrap_or("an unnamed user"),
        ))),
    }
}

fn failed(error: &Error) -> Refusal {
    match error {
        Error::Api(status) => unclear(&status.message),
        error => unclear(&format!("the API server does not answer: {}", words::innermost(error))),
    }
}

fn unclear(why: &str) -> Refusal {
    Refusal::Unclear(format!("cannot find out whose the token is: {why}"))
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Unknown(why) => {
                (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], format!("{why}\n"))
                    .into_response()
            }
            Self::Forbidden(why) => (StatusCode::FORBIDDEN, format!("{why}\n")).into_response(),
            Self::Unclear(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_token_is_what_follows_bearer() {
        let of = |value: &str| {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]);
            token(&headers).map(str::to_owned)
        };
        assert_eq!(of("Bearer a.b.c"), Ok("a.b.c".to_owned()));
        assert_eq!(of("bearer  a"), Ok("a".to_owned()));
        for other in ["", "a.b.c", "Bearer", "Bearer ", "Basic YTpi"] {
            assert!(matches!(of(other), Err(Refusal::Unknown(_))), "{other:?}");
        }
        assert!(of(&format!("Bearer {}", "a".repeat(LONGEST))).is_ok());
        assert!(of(&format!("Bearer {}", "a".repeat(LONGEST + 1))).is_err());
        assert!(token(&HeaderMap::new()).is_err());
    }

    #[test]
    fn viewers_are_remembered_for_a_while() {
        let (mut viewers, start) = (Viewers::default(), Instant::now());
        viewers.add([1; 32], start);
        assert_eq!(viewers.last(&[1; 32], start + FRESH), Some(FRESH));
        assert_eq!(viewers.last(&[2; 32], start), None);
        assert_eq!(viewers.last(&[1; 32], start + FAMILIAR), None);
    }

    #[test]
    fn a_line_is_no_longer_than_it_may_be() {
        let line = Line::default();
        let mut all = Vec::from_iter((0..AT_ONCE + WAITING).map(|_| Box::pin(line.turn())));
        let mut turns = Vec::from_iter(all.iter_mut().filter_map(|next| next.now_or_never()));
        assert_eq!(turns.len(), AT_ONCE, "the others wait");
        let refused = line.turn().now_or_never().unwrap().unwrap_err();
        assert!(matches!(&refused, Refusal::Unclear(why) if why.contains("too many")), "{refused:?}");
        turns.pop();
        assert!(all[AT_ONCE].as_mut().now_or_never().unwrap().is_ok(), "the next");
        assert!(line.turn().now_or_never().is_none(), "there is room again");
    }

    #[test]
    fn no_more_than_so_many_are() {
        let (mut viewers, start) = (Viewers::default(), Instant::now());
        let viewer = |number: usize| -> Fingerprint { Sha256::digest(number.to_be_bytes()).into() };
        (0..MOST + 1).for_each(|number| viewers.add(viewer(number), start));
        let knows = |viewers: &Viewers, number| viewers.last(&viewer(number), start).is_some();
        assert!(knows(&viewers, 0) && !knows(&viewers, MOST));
        assert_eq!(viewers.0.len(), MOST);
        viewers.add(viewer(0), start + FRESH);
        assert_eq!(viewers.last(&viewer(0), start + FRESH), Some(Duration::ZERO), "it is no other");
        viewers.add(viewer(MOST), start + FAMILIAR + FRESH);
        assert_eq!(viewers.0.len(), 1, "the others are over");
    }
}
