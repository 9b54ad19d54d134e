//! Messages that a server sends. Mirrors fe-protocol3.c of libpq for reading, and the pq_sendXXX
//! calls of the server for writing.

use super::frame::{Frame, FrameError, LARGE_LIMIT};
use super::pqformat::{BodyReader, MessageError, put_message, put_str};
use alloc::string::String;
use alloc::vec::Vec;
use bytes::{BufMut, Bytes};

/// The transaction status in ReadyForQuery.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TxStatus {
    /// `I`: not in a transaction block. A physical walsender is always in this state.
    Idle,
    /// `T`: in a transaction block.
    InTransaction,
    /// `E`: in a failed transaction block.
    Failed,
}

/// One column of a RowDescription.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Column {
    /// The name of the column.
    pub name: String,
    /// The OID of the table that the column belongs to, or 0.
    pub table_oid: u32,
    /// The number of the column in its table, or 0.
    pub attnum: i16,
    /// The OID of the column's type.
    pub type_oid: u32,
    /// Size of the type. -1 means that the size varies.
    pub typlen: i16,
    /// The type modifier. -1 means none.
    pub typmod: i32,
    /// The format code. 0 means text.
    pub format: i16,
}

impl Column {
    fn new(name: &str, type_oid: u32, typlen: i16) -> Self {
        Self {
            name: String::from(name),
            table_oid: 0,
            attnum: 0,
            type_oid,
            typlen,
            typmod: -1,
            format: 0,
        }
    }

    /// A column of type `text`.
    #[must_use]
    pub fn text(name: &str) -> Self {
        Self::new(name, 25, -1)
    }

    /// A column of type `int4`.
    #[must_use]
    pub fn int4(name: &str) -> Self {
        Self::new(name, 23, 4)
    }

    /// A column of type `int8`.
    #[must_use]
    pub fn int8(name: &str) -> Self {
        Self::new(name, 20, 8)
    }

    /// A column of type `bytea`.
    #[must_use]
    pub fn bytea(name: &str) -> Self {
        Self::new(name, 17, -1)
    }

    /// A column of type `name`.
    #[must_use]
    pub fn name(name: &str) -> Self {
        Self::new(name, 19, 64)
    }

    /// A column of type `record`.
    #[must_use]
    pub fn record(name: &str) -> Self {
        Self::new(name, 2249, -1)
    }

    /// A column of type `void`.
    #[must_use]
    pub fn void(name: &str) -> Self {
        Self::new(name, 2278, 4)
    }

    /// A column of type `pg_lsn`.
    #[must_use]
    pub fn pg_lsn(name: &str) -> Self {
        Self::new(name, 3220, 8)
    }
}

/// The fields of an ErrorResponse or a NoticeResponse.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ErrorFields {
    /// `S` and `V`: the severity (ERROR, FATAL, PANIC, WARNING, NOTICE, ...).
    pub severity: String,
    /// `C`: the SQLSTATE.
    pub sqlstate: [u8; 5],
    /// `M`: the message.
    pub message: String,
    /// `D`: the detail.
    pub detail: Option<String>,
    /// `H`: the hint.
    pub hint: Option<String>,
    /// All other fields with their codes, in the order of the message.
    pub others: Vec<(u8, String)>,
}

impl ErrorFields {
    /// An error without detail and hint.
    #[must_use]
    pub fn new(severity: &str, sqlstate: [u8; 5], message: impl Into<String>) -> Self {
        Self {
            severity: String::from(severity),
            sqlstate,
            message: message.into(),
            detail: None,
            hint: None,
            others: Vec::new(),
        }
    }

    fn decode(mut body: BodyReader) -> Result<Self, MessageError> {
        let mut fields = Self::new("", *b"XX000", "");
        loop {
            match body.u8()? {
                0 => break,
                b'V' => fields.severity = body.text()?,
                // `S` is the localized severity. It is used only if there is no `V`. Servers since
                // 9.6 send `V`.
                b'S' => {
                    let severity = body.text()?;
                    if fields.severity.is_empty() {
                        fields.severity = severity;
                    }
                }
                // libpq accepts any text as the code. walsim replaces a code that is not an
                // SQLSTATE by XX000.
                b'C' => {
                    let text = body.text()?;
                    fields.sqlstate = text.as_bytes().try_into().unwrap_or(*b"XX000");
                }
                b'M' => fields.message = body.text()?,
                b'D' => fields.detail = Some(body.text()?),
                b'H' => fields.hint = Some(body.text()?),
                code => fields.others.push((code, body.text()?)),
            }
        }
        body.end()?;
        Ok(fields)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let mut field = |code: u8, text: &str| {
            out.put_u8(code);
            put_str(out, text);
        };
        field(b'S', &self.severity);
        field(b'V', &self.severity);
        field(
            b'C',
            core::str::from_utf8(&self.sqlstate).unwrap_or("XX000"),
        );
        field(b'M', &self.message);
        if let Some(detail) = &self.detail {
            field(b'D', detail);
        }
        if let Some(hint) = &self.hint {
            field(b'H', hint);
        }
        for (code, text) in &self.others {
            field(*code, text);
        }
        out.put_u8(0);
    }
}

/// A message from the server.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum BackendMessage {
    /// `R` 0: authentication succeeded.
    AuthenticationOk,
    /// `R` with any other code: the server requests authentication.
    Authentication {
        /// The authentication method.
        code: u32,
        /// The rest of the body.
        data: Bytes,
    },
    /// `S`: the value of a setting that the server reports to clients.
    ParameterStatus {
        /// The setting.
        name: String,
        /// Its value.
        value: String,
    },
    /// `K`: the data that the client needs for a CancelRequest.
    BackendKeyData {
        /// The process id.
        pid: u32,
        /// The secret key. It has 4 bytes before protocol 3.2.
        key: Bytes,
    },
    /// `v`: the server supports only an older minor version of the protocol, or does not know some
    /// protocol options.
    NegotiateProtocolVersion {
        /// The newest version that the server supports, as a 32-bit protocol version.
        newest: u32,
        /// The options that the server does not know.
        options: Vec<String>,
    },
    /// `Z`: the server is ready for the next command.
    ReadyForQuery(TxStatus),
    /// `T`: the columns of the rows that follow.
    RowDescription(Vec<Column>),
    /// `D`: a row. `None` means NULL.
    DataRow(Vec<Option<Bytes>>),
    /// `C`: a command succeeded.
    CommandComplete(String),
    /// `I`: the command was empty.
    EmptyQueryResponse,
    /// `W`: COPY in both directions starts.
    CopyBothResponse {
        /// The format code. Replication uses only 0, which means text.
        format: u8,
        /// The format of each column. In replication there are no columns.
        columns: Vec<i16>,
    },
    /// `d`: part of a COPY stream.
    CopyData(Bytes),
    /// `c`: end of a COPY stream.
    CopyDone,
    /// `E`: a command failed, or the connection ends.
    ErrorResponse(ErrorFields),
    /// `N`: a notice.
    NoticeResponse(ErrorFields),
    /// `A`: a notification.
    NotificationResponse {
        /// The process that sent the notification.
        pid: u32,
        /// The channel.
        channel: String,
        /// The payload.
        payload: String,
    },
}

/// The largest length of a message of this type. If a message is longer, libpq reports a loss of
/// synchronization (`VALID_LONG_MESSAGE_TYPE`).
///
/// # Errors
/// The message type is unknown.
pub const fn backend_limit(tag: u8) -> Result<u32, FrameError> {
    match tag {
        b'T' | b'D' | b'd' | b'E' | b'N' | b'A' => Ok(LARGE_LIMIT),
        b'R' | b'S' | b'K' | b'v' | b'Z' | b'C' | b'I' | b'W' | b'c' => Ok(30_000),
        other => Err(FrameError::BackendType(other)),
    }
}

impl BackendMessage {
    /// The answer to START_REPLICATION.
    #[must_use]
    pub const fn copy_both() -> Self {
        Self::CopyBothResponse {
            format: 0,
            columns: Vec::new(),
        }
    }

    /// A row of text values.
    #[must_use]
    pub fn row<const N: usize>(values: [Option<String>; N]) -> Self {
        Self::DataRow(values.map(|value| value.map(Bytes::from)).into())
    }

    /// Decodes the body of a message whose length was checked with [`backend_limit`].
    ///
    /// # Errors
    /// The body does not match the message type.
    pub fn decode(frame: Frame) -> Result<Self, MessageError> {
        let Frame { tag, body } = frame;
        let mut reader = BodyReader::new(body);
        let message = match tag {
            b'R' => match reader.u32()? {
                0 => Self::AuthenticationOk,
                code => {
                    return Ok(Self::Authentication {
                        code,
                        data: reader.rest(),
                    });
                }
            },
            b'S' => Self::ParameterStatus {
                name: reader.text()?,
                value: reader.text()?,
            },
            b'K' => {
                let pid = reader.u32()?;
                let key = reader.rest();
                if !(4..=256).contains(&key.len()) {
                    return Err(MessageError::InvalidFormat);
                }
                return Ok(Self::BackendKeyData { pid, key });
            }
            b'v' => Self::NegotiateProtocolVersion {
                newest: reader.u32()?,
                options: {
                    let n = reader.u32()?;
                    many(n as usize, &mut reader, BodyReader::text)?
                },
            },
            b'Z' => Self::ReadyForQuery(match reader.u8()? {
                b'I' => TxStatus::Idle,
                b'T' => TxStatus::InTransaction,
                b'E' => TxStatus::Failed,
                _ => return Err(MessageError::InvalidFormat),
            }),
            b'T' => {
                let n = reader.u16()?;
                Self::RowDescription(many(n.into(), &mut reader, column)?)
            }
            b'D' => {
                let n = reader.u16()?;
                Self::DataRow(many(n.into(), &mut reader, value)?)
            }
            b'C' => Self::CommandComplete(reader.text()?),
            b'I' => Self::EmptyQueryResponse,
            b'W' => Self::CopyBothResponse {
                format: reader.u8()?,
                columns: {
                    let n = reader.u16()?;
                    many(n.into(), &mut reader, BodyReader::i16)?
                },
            },
            b'd' => return Ok(Self::CopyData(reader.rest())),
            b'c' => Self::CopyDone,
            b'E' => return ErrorFields::decode(reader).map(Self::ErrorResponse),
            b'N' => return ErrorFields::decode(reader).map(Self::NoticeResponse),
            b'A' => Self::NotificationResponse {
                pid: reader.u32()?,
                channel: reader.text()?,
                payload: reader.text()?,
            },
            _ => return Err(MessageError::InvalidFormat),
        };
        reader.end()?;
        Ok(message)
    }

    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::AuthenticationOk => put_message(out, b'R', |out| out.put_u32(0)),
            Self::Authentication { code, data } => put_message(out, b'R', |out| {
                out.put_u32(*code);
                out.put_slice(data);
            }),
            Self::ParameterStatus { name, value } => put_message(out, b'S', |out| {
                put_str(out, name);
                put_str(out, value);
            }),
            Self::BackendKeyData { pid, key } => put_message(out, b'K', |out| {
                out.put_u32(*pid);
                out.put_slice(key);
            }),
            Self::NegotiateProtocolVersion { newest, options } => put_message(out, b'v', |out| {
                out.put_u32(*newest);
                out.put_u32(
                    u32::try_from(options.len()).expect("a packet of 10000 bytes named them"),
                );
                for option in options {
                    put_str(out, option);
                }
            }),
            Self::ReadyForQuery(status) => put_message(out, b'Z', |out| {
                out.put_u8(match status {
                    TxStatus::Idle => b'I',
                    TxStatus::InTransaction => b'T',
                    TxStatus::Failed => b'E',
                });
            }),
            Self::RowDescription(columns) => put_message(out, b'T', |out| {
                out.put_u16(count(columns.len()));
                for column in columns {
                    put_str(out, &column.name);
                    out.put_u32(column.table_oid);
                    out.put_i16(column.attnum);
                    out.put_u32(column.type_oid);
                    out.put_i16(column.typlen);
                    out.put_i32(column.typmod);
                    out.put_i16(column.format);
                }
            }),
            Self::DataRow(values) => put_message(out, b'D', |out| {
                out.put_u16(count(values.len()));
                for value in values {
                    match value {
                        Some(bytes) => {
                            out.put_i32(
                                i32::try_from(bytes.len()).expect("a value is below 1 GiB"),
                            );
                            out.put_slice(bytes);
                        }
                        None => out.put_i32(-1),
                    }
                }
            }),
            Self::CommandComplete(tag) => put_message(out, b'C', |out| put_str(out, tag)),
            Self::EmptyQueryResponse => put_message(out, b'I', |_| ()),
            Self::CopyBothResponse { format, columns } => put_message(out, b'W', |out| {
                out.put_u8(*format);
                out.put_u16(count(columns.len()));
                for column in columns {
                    out.put_i16(*column);
                }
            }),
            Self::CopyData(data) => put_message(out, b'd', |out| out.put_slice(data)),
            Self::CopyDone => put_message(out, b'c', |_| ()),
            Self::ErrorResponse(fields) => put_message(out, b'E', |out| fields.encode(out)),
            Self::NoticeResponse(fields) => put_message(out, b'N', |out| fields.encode(out)),
            Self::NotificationResponse {
                pid,
                channel,
                payload,
            } => put_message(out, b'A', |out| {
                out.put_u32(*pid);
                put_str(out, channel);
                put_str(out, payload);
            }),
        }
    }

    /// The message as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = Vec::new();
        self.encode(&mut out);
        Bytes::from(out)
    }
}

fn count(columns: usize) -> u16 {
    u16::try_from(columns).expect("a row has at most 1664 columns")
}

/// Reads `n` items. Allocates memory only for items that are in the message.
fn many<T>(
    n: usize,
    reader: &mut BodyReader,
    item: impl Fn(&mut BodyReader) -> Result<T, MessageError>,
) -> Result<Vec<T>, MessageError> {
    (0..n).map(|_| item(reader)).collect()
}

fn column(reader: &mut BodyReader) -> Result<Column, MessageError> {
    Ok(Column {
        name: reader.text()?,
        table_oid: reader.u32()?,
        attnum: reader.i16()?,
        type_oid: reader.u32()?,
        typlen: reader.i16()?,
        typmod: reader.i32()?,
        format: reader.i16()?,
    })
}

fn value(reader: &mut BodyReader) -> Result<Option<Bytes>, MessageError> {
    match usize::try_from(reader.i32()?) {
        Ok(len) => reader.bytes(len).map(Some),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests;
