//! `status --web`: the daemon's page in a browser on this machine.
//!
//! A browser cannot open a unix socket, so a proxy to it listens on loopback, read-only and only for whoever
//! has the token in the address. The browser is sent there by a file that nobody else can read, for everybody can read
//! the command lines of a machine.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use trainerd_serve::auth::{Authenticator, Caching, Denied, Identity, require};
use trainerd_serve::{Problem as Answer, serve};

use super::context::Context;
use super::daemon_client::DaemonClient;
use crate::problem::Exit;
use crate::problem::Problem;

/// Bytes of a token: as hard to guess as a key.
const TOKEN: usize = 32;

/// Admits whoever has the one token.
struct Holder(String);

impl Authenticator for Holder {
    async fn authenticate(&self, token: &str) -> Result<Identity, Denied> {
        if token == self.0 {
            Ok(Identity { name: "the browser".to_owned(), groups: Vec::new() })
        } else {
            Err(Denied::BadToken)
        }
    }
}

/// Shows the page of a daemon until the process is asked to end.
pub(crate) async fn show(context: &Context, client: DaemonClient, browse: bool) -> Result<Exit, Problem> {
    let failed = |what: &str, error: &dyn std::error::Error| {
        Problem::new(Exit::Failed, "web", format!("failed to {what}")).because(error.to_string())
    };
    let viewed = async { Ok::<_, Problem>(client.view().await) };
    if let Err(error) = context.interrupt.or(viewed).await? {
        return Err(client.failed(&*error));
    }
    let token = token().map_err(|error| failed("draw a token", &error))?;
    let listener = trainerd_serve::listen::tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .await
        .map_err(|error| failed("listen on loopback", &error))?;
    let address =
        axum::serve::Listener::local_addr(&listener).map_err(|error| failed("listen on loopback", &error))?;
    let address = format!("http://{address}/#token={token}");
    context.printer.data(&format!("{address}\n"))?;
    let note = "the daemon's page, available while this command runs; stop it with Ctrl-C";
    context.printer.note(note);
    // Kept until the end: the browser may take its time.
    let _way = if browse { open_browser(&address) } else { None };
    let interrupt = context.interrupt.clone();
    let end = async move { interrupt.ended().await };
    let served = serve(listener, router(client, token), end).await;
    served.map_err(|error| failed("show the page", &error))?;
    Ok(Exit::Done)
}

fn router(client: DaemonClient, token: String) -> Router {
    // The page itself has no data, and a browser sends no token when it loads it.
    let page =
        Router::new().route("/", any(forward)).route("/page/{file}", any(forward)).with_state(client.clone());
    let api = Router::new().fallback(forward).with_state(client);
    page.merge(require(api, Holder(token), Caching::default()))
}

/// Passes a request on to the daemon, and its answer back.
async fn forward(State(client): State<DaemonClient>, mut request: Request) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let message = "this page is read-only";
        return Answer::new(StatusCode::METHOD_NOT_ALLOWED, "ReadOnly", message).into_response();
    }
    // The token of this page is good for nothing else.
    request.headers_mut().remove(AUTHORIZATION);
    match client.send(request).await {
        Ok(response) => response.map(Body::new),
        Err(error) => {
            let message = format!("the daemon does not respond: {error}");
            Answer::new(StatusCode::BAD_GATEWAY, "Unreachable", message).into_response()
        }
    }
}

fn token() -> Result<String, getrandom::Error> {
    let mut bytes = [0; TOKEN];
    getrandom::fill(&mut bytes)?;
    Ok(hex::encode(bytes))
}

/// Sends the browser to an address; the file that leads there, for as long as it is wanted.
fn open_browser(address: &str) -> Option<tempfile::NamedTempFile> {
    // Made so that nobody else may read it.
    let mut file = tempfile::Builder::new().prefix("trainerd-status-").suffix(".html").tempfile().ok()?;
    write!(file, "<!doctype html><meta http-equiv=\"refresh\" content=\"0; url={address}\">").ok()?;
    // Where there is no browser, the address that was printed will do.
    if let Err(error) = open::that_detached(file.path()) {
        tracing::debug!(%error, "failed to open a browser");
    }
    Some(file)
}
