//! Who may ask from a browser: pages of this machine, as with Ollama, and no page that got here by a trick of DNS.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, HOST, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::error::ServeError;
use crate::server::refuse;

/// Schemes of applications that show pages of their own, as in `envconfig.AllowedOrigins` of Ollama.
const APPLICATIONS: [&str; 5] = ["app", "file", "tauri", "vscode-webview", "vscode-file"];

/// Whether names in `Host` are checked: where only this machine can connect, another name comes from DNS rebinding.
#[derive(Clone, Copy)]
pub(crate) struct HostCheck {
    pub(crate) loopback: bool,
}

/// Refuses foreign pages with 403; answers the preflight of others, and lets them read the response.
pub(crate) async fn check(
    State(hosts): State<HostCheck>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path().to_owned();
    let origin = request.headers().get(ORIGIN).cloned();
    if let Err(message) = permit(request.headers(), hosts) {
        return refuse(&path, ServeError::new(StatusCode::FORBIDDEN, message));
    }
    let Some(origin) = origin else { return next.run(request).await };
    let asked = request.headers().get(ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let mut response = match *request.method() {
        Method::OPTIONS => preflight(asked),
        _ => next.run(request).await,
    };
    response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    response.headers_mut().append(VARY, HeaderValue::from_static("Origin"));
    response
}

/// Why a request may not come in.
fn permit(headers: &HeaderMap, hosts: HostCheck) -> Result<(), &'static str> {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = text(HOST).unwrap_or_default();
    if hosts.loopback && !is_local(host_name(host)) {
        return Err("this server is for this machine; start it with --host to serve others");
    }
    let Some(origin) = text(ORIGIN) else { return Ok(()) };
    let is_own = origin.split_once("://").is_some_and(|(_, place)| place == host);
    match is_own || is_allowed(origin) {
        true => Ok(()),
        false => Err("pages of other sites may not use this server"),
    }
}

fn preflight(asked: Option<HeaderValue>) -> Response {
    let mut headers = HeaderMap::new();
    let methods = HeaderValue::from_static("GET, POST, HEAD, OPTIONS");
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("43200"));
    if let Some(asked) = asked {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked);
    }
    (StatusCode::NO_CONTENT, headers).into_response()
}

fn is_allowed(origin: &str) -> bool {
    let Some((scheme, place)) = origin.split_once("://") else { return false };
    let name = host_name(place);
    let is_here = name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback() || ip.is_unspecified());
    APPLICATIONS.contains(&scheme) || (matches!(scheme, "http" | "https") && is_here)
}

/// Whether `host` is a name of this machine or its network, as `allowedHost` of Ollama has it.
fn is_local(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let is_private = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_unspecified(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unspecified(),
    };
    host.is_empty()
        || host == "localhost"
        || [".localhost", ".local", ".internal"].iter().any(|end| host.ends_with(end))
        || host.parse().is_ok_and(is_private)
}

/// `place` without its port and brackets.
fn host_name(place: &str) -> &str {
    match place.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => place.split(':').next().unwrap_or(place),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_this_machine_and_applications_may_ask() {
        for origin in [
            "http://localhost",
            "http://localhost:3000",
            "https://127.0.0.1:8080",
            "http://0.0.0.0",
            "http://[::1]:5173",
            "app://obsidian.md",
            "vscode-webview://abc",
        ] {
            assert!(is_allowed(origin), "{origin}");
        }
        for origin in [
            "https://example.com",
            "http://localhost.example.com",
            "http://127.0.0.1.example.com",
            "ftp://localhost",
            "null",
            "",
        ] {
            assert!(!is_allowed(origin), "{origin}");
        }
    }

    #[test]
    fn hosts_are_told_apart() {
        for host in ["localhost:11435", "127.0.0.1", "[::1]:80", "nas.local", "192.168.1.5:1", ""] {
            assert!(is_local(host_name(host)), "{host}");
        }
        for host in ["rebound.example.com", "8.8.8.8", "localhost.evil.org:11435"] {
            assert!(!is_local(host_name(host)), "{host}");
        }
    }
}
