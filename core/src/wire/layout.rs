//! Fixed layouts. One definition generates the struct, its length, its decoder and its encoder.
//!
//! PostgreSQL writes C structs to disk as they are in memory: little-endian and with padding. It
//! writes messages big-endian and without padding. `layout!` can define both. Padding is explicit.

use crate::base::{Lsn, SegmentNo, TimelineId, TimestampTz, Xid};
use alloc::vec::Vec;

/// An error: a field extends beyond the end of the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
#[error("{field} needs {need} bytes, {have} are left")]
pub struct Short {
    /// The field.
    pub field: &'static str,
    /// Its length.
    pub need: usize,
    /// The number of bytes left.
    pub have: usize,
}

/// The byte order of numbers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Order {
    /// Little-endian, as in PostgreSQL's files on common machines.
    Disk,
    /// Big-endian, as in PostgreSQL's messages.
    Network,
}

/// A value of fixed length in a layout.
pub trait Field: Sized {
    /// Size in bytes.
    const LEN: usize;

    /// Decodes exactly [`Field::LEN`] bytes.
    fn read(bytes: &[u8], order: Order) -> Self;

    /// Appends exactly [`Field::LEN`] bytes.
    fn write(&self, out: &mut Vec<u8>, order: Order);
}

macro_rules! integers {
    ($($ty:ty),*) => {$(
        impl Field for $ty {
            const LEN: usize = size_of::<$ty>();

            #[inline]
            fn read(bytes: &[u8], order: Order) -> Self {
                let bytes = bytes.try_into().expect("the caller cuts exactly LEN bytes");
                match order {
                    Order::Disk => Self::from_le_bytes(bytes),
                    Order::Network => Self::from_be_bytes(bytes),
                }
            }

            #[inline]
            fn write(&self, out: &mut Vec<u8>, order: Order) {
                match order {
                    Order::Disk => out.extend_from_slice(&self.to_le_bytes()),
                    Order::Network => out.extend_from_slice(&self.to_be_bytes()),
                }
            }
        }
    )*};
}

integers!(u8, i8, u16, i16, u32, i32, u64, i64);

macro_rules! newtypes {
    ($($ty:ident($inner:ty)),*) => {$(
        impl Field for $ty {
            const LEN: usize = <$inner>::LEN;

            #[inline]
            fn read(bytes: &[u8], order: Order) -> Self {
                Self(<$inner>::read(bytes, order))
            }

            #[inline]
            fn write(&self, out: &mut Vec<u8>, order: Order) {
                self.0.write(out, order);
            }
        }
    )*};
}

pub(crate) use newtypes;

newtypes!(
    Lsn(u64),
    SegmentNo(u64),
    TimelineId(u32),
    Xid(u32),
    TimestampTz(i64)
);

/// As in C, any byte other than 0 means true.
impl Field for bool {
    const LEN: usize = 1;

    #[inline]
    fn read(bytes: &[u8], order: Order) -> Self {
        u8::read(bytes, order) != 0
    }

    #[inline]
    fn write(&self, out: &mut Vec<u8>, _: Order) {
        out.push(u8::from(*self));
    }
}

impl<const N: usize> Field for [u8; N] {
    const LEN: usize = N;

    #[inline]
    fn read(bytes: &[u8], _: Order) -> Self {
        bytes.try_into().expect("the caller cuts exactly LEN bytes")
    }

    #[inline]
    fn write(&self, out: &mut Vec<u8>, _: Order) {
        out.extend_from_slice(self);
    }
}

/// Padding. It is written as zeros and ignored when it is read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Pad<const N: usize>;

impl<const N: usize> Field for Pad<N> {
    const LEN: usize = N;

    #[inline]
    fn read(_: &[u8], _: Order) -> Self {
        Self
    }

    #[inline]
    fn write(&self, out: &mut Vec<u8>, _: Order) {
        out.resize(out.len() + N, 0);
    }
}

/// Reads fields from the start of a slice, and never reads beyond the end of the slice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
    order: Order,
}

impl<'a> Cursor<'a> {
    /// A little-endian cursor.
    #[must_use]
    pub const fn disk(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            order: Order::Disk,
        }
    }

    /// A big-endian cursor.
    #[must_use]
    pub const fn network(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            order: Order::Network,
        }
    }

    /// The next field.
    ///
    /// # Errors
    /// Not enough bytes are left.
    #[inline]
    pub fn take<T: Field>(&mut self, field: &'static str) -> Result<T, Short> {
        let order = self.order;
        Ok(T::read(self.bytes(field, T::LEN)?, order))
    }

    /// The next `need` bytes.
    ///
    /// # Errors
    /// Not enough bytes are left.
    #[inline]
    pub fn bytes(&mut self, field: &'static str, need: usize) -> Result<&'a [u8], Short> {
        let Some((taken, rest)) = self.rest.split_at_checked(need) else {
            let have = self.rest.len();
            return Err(Short { field, need, have });
        };
        self.rest = rest;
        Ok(taken)
    }

    /// The bytes before the next NUL. The cursor then points after the NUL.
    ///
    /// # Errors
    /// There is no NUL.
    pub fn cstr(&mut self, field: &'static str) -> Result<&'a [u8], Short> {
        let have = self.rest.len();
        let Some(end) = self.rest.iter().position(|&byte| byte == 0) else {
            let need = have + 1;
            return Err(Short { field, need, have });
        };
        let text = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        Ok(text)
    }

    /// The remaining bytes.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

/// Defines a struct of fixed layout: `layout! { /// doc ↵ pub struct Name: Disk { /// doc ↵ pub a:
/// u32, pub pad: Pad<4>, } }`.
///
/// The byte order is `Disk` or `Network`. The macro defines `LEN`, `decode` (reads from the start
/// of a slice) and `encode` (appends). It also implements [`Field`], so that the struct can be part
/// of another layout. The struct then keeps its own byte order.
macro_rules! layout {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident: $order:ident {
            $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $ty:ty,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        $vis struct $name {
            $($(#[$field_meta])* $field_vis $field: $ty,)*
        }

        #[allow(dead_code, reason = "not every layout is used in both directions")]
        impl $name {
            /// Size in bytes.
            $vis const LEN: usize = 0 $(+ <$ty as $crate::wire::layout::Field>::LEN)*;

            /// Decodes the first [`Self::LEN`] bytes.
            ///
            /// # Errors
            /// The slice is shorter.
            #[inline]
            $vis fn decode(bytes: &[u8]) -> Result<Self, $crate::wire::layout::Short> {
                let read = |mut cursor: $crate::wire::layout::Cursor<'_>| {
                    Ok(Self { $($field: cursor.take(stringify!($field))?,)* })
                };
                // If the slice is long enough for all fields, the single fields need no length
                // checks.
                match bytes.first_chunk::<{ Self::LEN }>() {
                    Some(exact) => read($crate::wire::layout::layout!(@cursor $order, exact)),
                    None => read($crate::wire::layout::layout!(@cursor $order, bytes)),
                }
            }

            /// Appends the [`Self::LEN`] bytes of the struct.
            $vis fn encode(&self, out: &mut alloc::vec::Vec<u8>) {
                let order = $crate::wire::layout::Order::$order;
                $($crate::wire::layout::Field::write(&self.$field, out, order);)*
            }
        }

        impl $crate::wire::layout::Field for $name {
            const LEN: usize = Self::LEN;

            #[inline]
            fn read(bytes: &[u8], _: $crate::wire::layout::Order) -> Self {
                Self::decode(bytes).expect("the caller cuts exactly LEN bytes")
            }

            fn write(&self, out: &mut alloc::vec::Vec<u8>, _: $crate::wire::layout::Order) {
                self.encode(out);
            }
        }
    };
    (@cursor Disk, $bytes:expr) => { $crate::wire::layout::Cursor::disk($bytes) };
    (@cursor Network, $bytes:expr) => { $crate::wire::layout::Cursor::network($bytes) };
}
pub(crate) use layout;

#[cfg(test)]
mod tests {
    use super::*;

    layout! {
        /// A struct on disk.
        struct Inner: Disk {
            /// A number.
            a: u16,
            /// Padding.
            pad: Pad<2>,
            /// A position.
            b: Lsn,
        }
    }
    layout! {
        /// A struct in a message.
        struct Outer: Network {
            /// A flag.
            flag: bool,
            /// A number.
            n: i32,
            /// A struct that has its own byte order.
            inner: Inner,
            /// Raw bytes.
            raw: [u8; 3],
        }
    }

    const VALUE: Outer = Outer {
        flag: true,
        n: -2,
        inner: Inner {
            a: 0x0102,
            pad: Pad,
            b: Lsn(0x10),
        },
        raw: *b"abc",
    };

    /// The bytes of a struct are the bytes of its fields. Each field is in the byte order of the
    /// struct that defines it.
    #[test]
    fn bytes_are_as_stated() {
        let mut bytes = Vec::new();
        VALUE.encode(&mut bytes);
        assert_eq!(
            bytes,
            b"\x01\xff\xff\xff\xfe\x02\x01\0\0\x10\0\0\0\0\0\0\0abc"
        );
        assert_eq!(bytes.len(), Outer::LEN);
        assert_eq!(Outer::decode(&bytes), Ok(VALUE));
    }

    /// If a slice is too short, the error names the missing field. A slice that is too long is
    /// accepted.
    #[test]
    fn truncations_name_the_field() {
        let mut bytes = Vec::new();
        VALUE.encode(&mut bytes);
        bytes.push(9);
        assert_eq!(Outer::decode(&bytes), Ok(VALUE));
        for len in 0..Outer::LEN {
            assert!(Outer::decode(&bytes[..len]).is_err(), "{len}");
        }
        let short = Short {
            field: "n",
            need: 4,
            have: 2,
        };
        assert_eq!(Outer::decode(&bytes[..3]), Err(short));
    }

    #[test]
    fn cursor_reads_strings_and_the_rest() {
        let mut cursor = Cursor::network(b"ab\0\0\x05cd");
        assert_eq!(cursor.cstr("text"), Ok(&b"ab"[..]));
        assert_eq!(cursor.take::<u16>("n"), Ok(5));
        assert!(cursor.cstr("text").is_err());
        assert_eq!(cursor.rest(), b"cd");
    }
}
