//! Protocols as tables: each operation is one line, from which all come that name it.
//!
//! A line has the tag, the request, the reply, words about the operation, and the inodes that it is about:
//!
//! ```text
//! 24 Rename -> Removed [change] names(parent, new_parent);
//! ```
//!
//! From the table come the two enums with their tags, the messages around them, the trait that gives a request its typed reply,
//! and the names for spans and metrics. Tags are for ever: a test holds them against a list.

/// Declares a protocol; see the module. The words of an operation:
///
/// - `read`: asked again as it is, however often (`ReadOperation`); `change`: has an id, by which it is done once (`ChangeOperation`);
/// - `walks`: takes as long as the tree or the under-storage is large;
/// - `droppable`: may be given up where it is when its caller has gone;
/// - `home`: only the worker that holds the open version can do it, so its caller waits while that cannot be reached;
/// - `twice`: done twice it is as done once, so it is asked again when its answer was lost.
macro_rules! protocol {
    (
        $(#[$request_meta:meta])*
        request $Request:ident { $($request_fields:tt)* }
        $(#[$op_meta:meta])*
        op $Op:ident by $Operation:ident {
            $($tag:tt $Name:ident -> $Answer:ident [$($word:ident)*] $($about:ident($($inode:tt)*))?;)*
        }
        $(#[$message_meta:meta])*
        message $Message:ident { $($message_fields:tt)* }
        $(#[$reply_meta:meta])*
        reply $Reply:ident by $FromReply:ident {
            $($reply_tag:tt $ReplyName:ident $(or $Old:ident)?;)*
        }
    ) => {
        $(#[$op_meta])*
        #[derive(Clone, PartialEq, prost::Oneof)]
        pub enum $Op {
            $(
                #[doc = concat!("See [`", stringify!($Name), "`]; answered by [`", stringify!($Answer), "`].")]
                #[prost(message, tag = $tag)]
                $Name($Name),
            )*
        }

        $(#[$request_meta])*
        #[derive(Clone, PartialEq, prost::Message)]
        pub struct $Request {
            $($request_fields)*
            /// What is asked.
            #[prost(oneof($Op), tags($($tag),*))]
            pub op: Option<$Op>,
        }

        $(#[$reply_meta])*
        #[derive(Clone, PartialEq, prost::Oneof)]
        pub enum $Reply {
            $(
                #[doc = concat!("See [`", stringify!($ReplyName), "`].")]
                #[prost(message, tag = $reply_tag)]
                $ReplyName($ReplyName),
            )*
        }

        $(#[$message_meta])*
        #[derive(Clone, PartialEq, prost::Message)]
        pub struct $Message {
            $($message_fields)*
            /// The answer.
            #[prost(oneof($Reply), tags($($reply_tag),*))]
            pub reply: Option<$Reply>,
        }

        #[doc = concat!("A request of [`", stringify!($Op), "`], with the reply that belongs to it.")]
        pub trait $Operation: Clone + Into<$Op> + Send + Sync + 'static {
            /// What it is answered by.
            type Reply: $FromReply + Into<$Reply> + Send + 'static;
            /// Its name in spans and metrics.
            const NAME: &'static str;
            /// Inodes that it names by their numbers, and that must be there; 0 is none.
            fn named_inodes(&self) -> [u64; 2];
            /// What it is about: an inode, or the folder of a name; 0 if that would take a look-up.
            fn about_inode(&self) -> u64;

            /// The reply to this operation out of one to any.
            ///
            /// # Errors
            /// `Internal`: the reply belongs to another operation, which is a bug of one end.
            fn answered_by(reply: $Reply) -> $crate::FsResult<Self::Reply> {
                <Self::Reply as $FromReply>::from_reply(reply).ok_or_else(|| {
                    let why = format!("{} was answered with another message", Self::NAME);
                    $crate::FsError::new($crate::ErrorKind::Internal, why)
                })
            }
        }

        impl $Op {
            /// Names of operations, by their numbers.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($Name)),*];

            /// A number for each operation, dense from 0. Not the tag: it means nothing outside of this process.
            pub fn number(&self) -> usize {
                enum Number {
                    $($Name),*
                }
                match self {
                    $($Op::$Name(_) => Number::$Name as usize,)*
                }
            }

            #[doc = concat!("See [`", stringify!($Operation), "::NAME`].")]
            pub fn name(&self) -> &'static str {
                match self {
                    $($Op::$Name(_) => <$Name as $Operation>::NAME,)*
                }
            }

            #[doc = concat!("See [`", stringify!($Operation), "::named_inodes`].")]
            pub fn named_inodes(&self) -> [u64; 2] {
                match self {
                    $($Op::$Name(op) => op.named_inodes(),)*
                }
            }

            #[doc = concat!("See [`", stringify!($Operation), "::about_inode`].")]
            pub fn about_inode(&self) -> u64 {
                match self {
                    $($Op::$Name(op) => op.about_inode(),)*
                }
            }

            /// It takes as long as the tree or the under-storage is large.
            pub fn walks(&self) -> bool {
                match self {
                    $($Op::$Name(_) => $crate::protocol::has!(walks in $($word)*),)*
                }
            }

            /// It may be given up where it is when its caller has gone.
            pub fn is_droppable(&self) -> bool {
                match self {
                    $($Op::$Name(_) => $crate::protocol::has!(droppable in $($word)*),)*
                }
            }

            /// Nobody but the worker that holds the open version can do it.
            pub fn needs_home(&self) -> bool {
                match self {
                    $($Op::$Name(_) => $crate::protocol::has!(home in $($word)*),)*
                }
            }

            /// Done twice it is as done once.
            pub fn may_be_done_twice(&self) -> bool {
                match self {
                    $($Op::$Name(_) => $crate::protocol::has!(twice in $($word)*),)*
                }
            }

            /// Each operation once, with nothing in its request.
            #[cfg(test)]
            fn samples() -> Vec<Self> {
                vec![$($Op::$Name($Name::default())),*]
            }
        }

        impl $Reply {
            /// Each reply once, with nothing in it.
            #[cfg(test)]
            fn samples() -> Vec<(&'static str, Self)> {
                vec![$((stringify!($ReplyName), $Reply::$ReplyName($ReplyName::default()))),*]
            }
        }

        $(
            impl From<$Name> for $Op {
                fn from(request: $Name) -> Self {
                    $Op::$Name(request)
                }
            }

            impl $Operation for $Name {
                type Reply = $Answer;
                const NAME: &'static str = stringify!($Name);

                fn named_inodes(&self) -> [u64; 2] {
                    $crate::protocol::inodes!(self $($about($($inode)*))?).0
                }

                fn about_inode(&self) -> u64 {
                    $crate::protocol::inodes!(self $($about($($inode)*))?).1
                }
            }

            $($crate::protocol::word!($word $Name);)*
        )*

        #[doc = concat!("A message out of a [`", stringify!($Reply), "`].")]
        pub trait $FromReply: Sized {
            /// `None` if the reply is another message.
            fn from_reply(reply: $Reply) -> Option<Self>;
        }

        $(
            impl $FromReply for $ReplyName {
                fn from_reply(reply: $Reply) -> Option<Self> {
                    match reply {
                        $Reply::$ReplyName(message) => Some(message),
                        // Of a server that does not know how to tell.
                        $($Reply::$Old(_) => Some(Self::default()),)?
                        _ => None,
                    }
                }
            }

            impl From<$ReplyName> for $Reply {
                fn from(message: $ReplyName) -> Self {
                    $Reply::$ReplyName(message)
                }
            }
        )*
    };
}

/// Whether a word is among those of an operation.
macro_rules! has {
    ($wanted:ident in) => { false };
    (walks in walks $($more:ident)*) => { true };
    (droppable in droppable $($more:ident)*) => { true };
    (home in home $($more:ident)*) => { true };
    (twice in twice $($more:ident)*) => { true };
    ($wanted:ident in $other:ident $($more:ident)*) => { $crate::protocol::has!($wanted in $($more)*) };
}

/// What a word of an operation means for the type of its request.
macro_rules! word {
    (read $Name:ident) => {
        impl ReadOperation for $Name {}
    };
    (change $Name:ident) => {
        impl ChangeOperation for $Name {}
    };
    (walks $Name:ident) => {};
    (droppable $Name:ident) => {};
    (home $Name:ident) => {};
    (twice $Name:ident) => {};
}

/// Those that must be there, and the one that it is about.
macro_rules! inodes {
    ($op:ident) => {
        ([0, 0], 0)
    };
    ($op:ident about($inode:ident)) => {
        ([0, 0], $op.$inode)
    };
    ($op:ident names($inode:ident)) => {
        ([$op.$inode, 0], $op.$inode)
    };
    ($op:ident names($inode:ident())) => {
        ([$op.$inode(), 0], $op.$inode())
    };
    ($op:ident names($first:ident, $second:ident)) => {
        ([$op.$first, $op.$second], $op.$first)
    };
}

pub(crate) use {has, inodes, protocol, word};

/// What tests hold a protocol's tags against.
#[cfg(test)]
pub(crate) mod golden {
    /// Number of the one field of an encoded message, which holds an empty message.
    pub(crate) fn tag_of(encoded: &[u8]) -> u64 {
        let mut rest = encoded;
        let key = prost::encoding::decode_varint(&mut rest).expect("a key");
        assert_eq!((key & 7, rest), (2, &[0][..]), "an empty message and nothing else");
        key >> 3
    }

    /// The lines of a list, in the order that names are compared in.
    pub(crate) fn lines(list: &str) -> Vec<String> {
        let mut lines: Vec<String> = list.lines().map(|line| line.trim().to_owned()).collect();
        lines.retain(|line| !line.is_empty());
        lines.sort();
        lines
    }
}
