//! The parts of messages: answers, failures, bytes, and texts with fixed values.

use sandbox_core::internal::engine_report;
use sandbox_core::{Capture, Enforcement, EngineReport, Limit};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use super::error::{Difference, SharingError};
use super::gate::NotAdmitted;
use crate::error_kind::ErrorKind;

/// The methods of frames that answer a call.
pub(super) mod answer {
    /// The hello was accepted; the body is the welcome.
    pub(in super::super) const WELCOME: u16 = 0x8000;
    /// The call begins.
    pub(in super::super) const ACCEPTED: u16 = 0x8001;
    /// The call succeeded; the body is its output.
    pub(in super::super) const DONE: u16 = 0x8002;
    /// The call failed; the body is a [`Failure`](super::Failure).
    pub(in super::super) const FAILED: u16 = 0x8003;
    /// The call did not begin; the body is a [`Rejection`](super::Rejection).
    pub(in super::super) const REFUSED: u16 = 0x8004;
}

/// The reason for which a hello or a call is refused.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Rejection {
    /// The server ends, or the session was closed.
    Gate(NotAdmitted),
    /// The client has other settings.
    Differs(Vec<Difference>),
    /// The session belongs to another user.
    WrongUser,
    /// The client is not accepted.
    Peer(String),
    /// The server does not know the method.
    UnknownMethod(u16),
    /// The server cannot parse the frame.
    Invalid(String),
}

/// An error of a call.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Failure {
    kind: ErrorKind,
    is_retryable: bool,
    message: String,
}

impl Failure {
    pub(super) fn new(
        kind: ErrorKind,
        is_retryable: bool,
        error: &(dyn std::error::Error + 'static),
    ) -> Self {
        Self { kind, is_retryable, message: artifact_sync::internal::with_causes(error) }
    }
}

impl From<Failure> for SharingError {
    fn from(failure: Failure) -> Self {
        let Failure { kind, is_retryable, message } = failure;
        Self::Served { kind, is_retryable, message }
    }
}

/// Bytes as base64.
pub(super) mod base64_bytes {
    use std::borrow::Cow;

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in super::super) fn serialize<S: Serializer>(
        bytes: &[u8],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(in super::super) fn deserialize<'de, 'a, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Cow<'a, [u8]>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Cow::Owned).map_err(D::Error::custom)
    }
}

/// Bytes that a result owns, as base64.
pub(crate) mod owned_bytes {
    use serde::{Deserializer, Serializer};

    use super::base64_bytes;

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        base64_bytes::serialize(bytes, serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        base64_bytes::deserialize(deserializer).map(std::borrow::Cow::into_owned)
    }
}

/// Values as the texts that they are parsed from.
pub(super) mod texts {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in super::super) fn serialize<T: Display, S: Serializer>(
        values: &[T],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(ToString::to_string))
    }

    pub(in super::super) fn deserialize<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
    }
}

/// A text with one of a few fixed values. The alias keeps serde from borrowing it.
pub(crate) type FixedText = &'static str;

/// Finds a text among its possible values.
fn fixed<'de, D: Deserializer<'de>>(
    deserializer: D,
    values: &[FixedText],
) -> Result<FixedText, D::Error> {
    let text = String::deserialize(deserializer)?;
    let found = values.iter().find(|value| **value == text).copied();
    found.ok_or_else(|| D::Error::custom("unknown value"))
}

/// Parses the access of a denial.
pub(crate) fn parse_access<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<FixedText, D::Error> {
    fixed(deserializer, &["read", "write", "connect"])
}

/// Parses the key of a limit.
pub(crate) fn parse_limit<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<FixedText>, D::Error> {
    fixed(deserializer, &Limit::ALL.map(Limit::key)).map(Some)
}

/// Parses the encoding of a file's content.
pub(crate) fn parse_encoding<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<FixedText>, D::Error> {
    fixed(deserializer, &["base64"]).map(Some)
}

/// An [`EngineReport`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ReportText {
    engine: String,
    layers: [Layer; 5],
    /// Absent from servers of earlier versions.
    #[serde(default)]
    capture: Option<CaptureText>,
}

/// A [`CaptureReport`](sandbox_core::CaptureReport).
#[derive(Debug, Serialize, Deserialize)]
struct CaptureText {
    by: CaptureBy,
    why: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum CaptureBy {
    None,
    Variables,
    Ports(Vec<u16>),
    EveryPort,
}

impl From<&EngineReport> for CaptureText {
    fn from(report: &EngineReport) -> Self {
        let by = match &report.capture.capture {
            Some(Capture::EveryPort) => CaptureBy::EveryPort,
            Some(Capture::Ports(ports)) => CaptureBy::Ports(ports.clone()),
            Some(Capture::Variables) => CaptureBy::Variables,
            _ => CaptureBy::None,
        };
        Self { by, why: report.capture.why.clone() }
    }
}

impl CaptureText {
    fn apply(self, report: &mut EngineReport) {
        report.capture.capture = match self.by {
            CaptureBy::None => None,
            CaptureBy::Variables => Some(Capture::Variables),
            CaptureBy::Ports(ports) => Some(Capture::Ports(ports)),
            CaptureBy::EveryPort => Some(Capture::EveryPort),
        };
        report.capture.why = self.why;
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Layer {
    Full,
    Weaker { why: String },
    None { why: String, remedy: String },
}

impl From<&EngineReport> for ReportText {
    fn from(report: &EngineReport) -> Self {
        let layers = report.layers().map(|(_, layer)| match layer.clone() {
            Enforcement::Weaker { why } => Layer::Weaker { why },
            Enforcement::None { why, remedy } => Layer::None { why, remedy },
            _ => Layer::Full,
        });
        Self { engine: report.engine.to_owned(), layers, capture: Some(report.into()) }
    }
}

impl From<ReportText> for EngineReport {
    fn from(report: ReportText) -> Self {
        let ReportText { engine, layers, capture } = report;
        let engine = ["native", "landlock"].into_iter().find(|known| *known == engine);
        let layers = layers.map(|layer| match layer {
            Layer::Full => Enforcement::Full,
            Layer::Weaker { why } => Enforcement::Weaker { why },
            Layer::None { why, remedy } => Enforcement::None { why, remedy },
        });
        let mut report = engine_report(engine.unwrap_or("unknown"), layers);
        if let Some(capture) = capture {
            capture.apply(&mut report);
        }
        report
    }
}
