//! Where Ollama is: `OLLAMA_HOST`, read as Ollama's own client reads it.

use std::{fmt, net::IpAddr, str::FromStr};

use crate::error::ChatError;

/// Address of an Ollama server.
///
/// Read like `envconfig.Host` of Ollama: surrounding quotes and blanks are dropped, the scheme may be missing
/// (`http`), the port too (11434 without a scheme, 80 after `http://`, 443 after `https://`), and a path is kept.
/// An address to *listen* on everywhere (`0.0.0.0`, `[::]`, `:11434`) is reached on loopback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    scheme: String,
    /// IPv6 without brackets.
    host: String,
    port: u16,
    /// Without slashes at either end.
    path: String,
}

impl Host {
    /// From `OLLAMA_HOST`; the usual local address where it is not set.
    ///
    /// # Errors
    /// Like [`Host::from_str`].
    pub fn from_env() -> Result<Self, ChatError> {
        std::env::var("OLLAMA_HOST").unwrap_or_default().parse()
    }

    /// The address as a client writes it, e.g. `http://127.0.0.1:11434`.
    pub fn url(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let slash = if self.path.is_empty() { "" } else { "/" };
        format!("{}://{host}:{}{slash}{}", self.scheme, self.port, self.path)
    }
}

impl Default for Host {
    fn default() -> Self {
        Self { scheme: "http".into(), host: "127.0.0.1".into(), port: 11434, path: String::new() }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url())
    }
}

impl FromStr for Host {
    type Err = ChatError;

    /// # Errors
    /// [`ChatError::BadRequest`] for a scheme that is neither `http` nor `https`.
    fn from_str(text: &str) -> Result<Self, ChatError> {
        let text = text.trim().trim_matches(['"', '\'']).trim();
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let default_port = match scheme {
            _ if !text.contains("://") && text == "ollama.com" => {
                return "https://ollama.com".parse();
            }
            _ if !text.contains("://") => 11434,
            "http" => 80,
            "https" => 443,
            _ => {
                return Err(ChatError::BadRequest {
                    text: format!(
                        "`OLLAMA_HOST` begins with `{scheme}://`; write it like `http://127.0.0.1:11434`"
                    ),
                });
            }
        };
        let (address, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = split_port(address);
        let port = port.map_or(default_port, |port| {
            port.parse().unwrap_or_else(|_| {
                tracing::warn!(
                    port,
                    default_port,
                    "`OLLAMA_HOST` has no valid port, using the default"
                );
                default_port
            })
        });
        Ok(Self {
            scheme: scheme.to_owned(),
            host: reachable(host),
            port,
            path: path.trim_matches('/').to_owned(),
        })
    }
}

/// Host and port of `address`; like Go's `net.SplitHostPort`, more than one colon outside brackets is no port.
fn split_port(address: &str) -> (&str, Option<&str>) {
    if let Some(rest) = address.strip_prefix('[')
        && let Some((host, after)) = rest.split_once(']')
    {
        return (host, after.strip_prefix(':'));
    }
    match address.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host, Some(port)),
        _ => (address, None),
    }
}

/// Where a client finds a server that listens on `host`.
fn reachable(host: &str) -> String {
    match host.parse::<IpAddr>() {
        _ if host.is_empty() => "127.0.0.1".to_owned(),
        Ok(IpAddr::V4(address)) if address.is_unspecified() => "127.0.0.1".to_owned(),
        Ok(IpAddr::V6(address)) if address.is_unspecified() => "::1".to_owned(),
        Ok(address) => address.to_string(),
        Err(_) => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cases of Ollama's `envconfig/config_test.go`; where it keeps an address to listen on, the one to reach.
    #[test]
    fn ollama_host_is_read_as_ollama_reads_it() {
        let cases = [
            ("", "http://127.0.0.1:11434"),
            ("1.2.3.4", "http://1.2.3.4:11434"),
            (":1234", "http://127.0.0.1:1234"),
            ("1.2.3.4:1234", "http://1.2.3.4:1234"),
            ("example.com", "http://example.com:11434"),
            ("example.com:1234", "http://example.com:1234"),
            (":0", "http://127.0.0.1:0"),
            (":66000", "http://127.0.0.1:11434"),
            (":-1", "http://127.0.0.1:11434"),
            ("[::1]", "http://[::1]:11434"),
            ("[::]", "http://[::1]:11434"),
            ("::1", "http://[::1]:11434"),
            ("[::1]:1337", "http://[::1]:1337"),
            (" 1.2.3.4 ", "http://1.2.3.4:11434"),
            ("\"1.2.3.4\"", "http://1.2.3.4:11434"),
            (" \" 1.2.3.4 \" ", "http://1.2.3.4:11434"),
            ("'1.2.3.4'", "http://1.2.3.4:11434"),
            ("http://1.2.3.4", "http://1.2.3.4:80"),
            ("http://1.2.3.4:4321", "http://1.2.3.4:4321"),
            ("https://1.2.3.4", "https://1.2.3.4:443"),
            ("https://1.2.3.4:4321", "https://1.2.3.4:4321"),
            ("https://example.com/ollama", "https://example.com:443/ollama"),
            ("ollama.com", "https://ollama.com:443"),
            ("0.0.0.0", "http://127.0.0.1:11434"),
            ("http://0.0.0.0:8080/", "http://127.0.0.1:8080"),
            ("example.com:1/a/b/", "http://example.com:1/a/b"),
        ];
        for (text, url) in cases {
            assert_eq!(text.parse::<Host>().unwrap().url(), url, "{text}");
        }
        assert_eq!(Host::default(), "".parse().unwrap());
    }

    #[test]
    fn another_scheme_is_refused() {
        let message = "tcp://127.0.0.1".parse::<Host>().unwrap_err().to_string();
        assert!(message.contains("begins with `tcp://`"), "{message}");
    }
}
