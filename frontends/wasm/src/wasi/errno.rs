//! Error numbers of WASI preview 1: one row says number, name, host error and meaning.
//!
//! *Guarantees.* Every host error maps to exactly one row; those without a row of their own are `io`.

use std::fmt;

use rustix::io::Errno as HostErrno;

/// Defines [`Errno`] and everything asked about it from rows
/// `number Variant "name in the specification" (host errors) "meaning"`.
macro_rules! errnos {
    ($($code:literal $variant:ident $name:literal ($($host:ident)*) $meaning:literal)*) => {
        /// What a function tells the program; variants carry the specification's names.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u16)]
        pub enum Errno {
            $(#[doc = $meaning] $variant = $code,)*
        }

        impl Errno {
            /// The name in the specification, such as `badf`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The meaning in a few words.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => $meaning,)*
                }
            }
        }

        impl From<HostErrno> for Errno {
            fn from(host: HostErrno) -> Self {
                match host {
                    $($(HostErrno::$host => Self::$variant,)*)*
                    _ => Self::Io,
                }
            }
        }
    };
}

errnos! {
    0 Success "success" () "the call did what it says"
    1 TooBig "2big" (TOOBIG) "argument list too long"
    2 Acces "acces" (ACCESS) "permission denied by the host"
    3 Addrinuse "addrinuse" (ADDRINUSE) "address in use"
    4 Addrnotavail "addrnotavail" (ADDRNOTAVAIL) "address not available"
    5 Afnosupport "afnosupport" (AFNOSUPPORT) "address family not supported"
    6 Again "again" (AGAIN) "not ready, try again"
    7 Already "already" (ALREADY) "already in progress"
    8 Badf "badf" (BADF) "not an open descriptor, or not open for this"
    9 Badmsg "badmsg" (BADMSG) "bad message"
    10 Busy "busy" (BUSY) "in use"
    11 Canceled "canceled" (CANCELED) "cancelled"
    12 Child "child" (CHILD) "no child processes"
    13 Connaborted "connaborted" (CONNABORTED) "connection aborted"
    14 Connrefused "connrefused" (CONNREFUSED) "connection refused"
    15 Connreset "connreset" (CONNRESET) "connection reset"
    16 Deadlk "deadlk" (DEADLK) "would deadlock"
    17 Destaddrreq "destaddrreq" (DESTADDRREQ) "destination address required"
    18 Dom "dom" (DOM) "argument outside the function's domain"
    19 Dquot "dquot" (DQUOT) "disk quota exceeded"
    20 Exist "exist" (EXIST) "exists already"
    21 Fault "fault" (FAULT) "address outside the program's memory"
    22 Fbig "fbig" (FBIG) "file too large"
    23 Hostunreach "hostunreach" (HOSTUNREACH) "host unreachable"
    24 Idrm "idrm" (IDRM) "identifier removed"
    25 Ilseq "ilseq" (ILSEQ) "illegal byte sequence"
    26 Inprogress "inprogress" (INPROGRESS) "in progress"
    27 Intr "intr" (INTR) "interrupted"
    28 Inval "inval" (INVAL) "invalid argument"
    29 Io "io" (IO) "input or output failed"
    30 Isconn "isconn" (ISCONN) "already connected"
    31 Isdir "isdir" (ISDIR) "is a directory"
    32 Loop "loop" (LOOP) "too many symbolic links, or one that must not be followed"
    33 Mfile "mfile" (MFILE) "too many open descriptors"
    34 Mlink "mlink" (MLINK) "too many links"
    35 Msgsize "msgsize" (MSGSIZE) "message too large"
    36 Multihop "multihop" (MULTIHOP) "reserved"
    37 Nametoolong "nametoolong" (NAMETOOLONG) "name too long"
    38 Netdown "netdown" (NETDOWN) "network down"
    39 Netreset "netreset" (NETRESET) "connection aborted by the network"
    40 Netunreach "netunreach" (NETUNREACH) "network unreachable"
    41 Nfile "nfile" (NFILE) "too many open files in the system"
    42 Nobufs "nobufs" (NOBUFS) "no buffer space"
    43 Nodev "nodev" (NODEV) "no such device"
    44 Noent "noent" (NOENT) "no such file or directory"
    45 Noexec "noexec" (NOEXEC) "not executable"
    46 Nolck "nolck" (NOLCK) "no locks available"
    47 Nolink "nolink" (NOLINK) "reserved"
    48 Nomem "nomem" (NOMEM) "out of memory"
    49 Nomsg "nomsg" (NOMSG) "no message of that type"
    50 Noprotoopt "noprotoopt" (NOPROTOOPT) "protocol option not available"
    51 Nospc "nospc" (NOSPC) "no space left"
    52 Nosys "nosys" (NOSYS) "no such function"
    53 Notconn "notconn" (NOTCONN) "not connected"
    54 Notdir "notdir" (NOTDIR) "not a directory"
    55 Notempty "notempty" (NOTEMPTY) "directory not empty"
    56 Notrecoverable "notrecoverable" (NOTRECOVERABLE) "state not recoverable"
    57 Notsock "notsock" (NOTSOCK) "not a socket"
    58 Notsup "notsup" (NOTSUP) "not supported"
    59 Notty "notty" (NOTTY) "not a terminal"
    60 Nxio "nxio" (NXIO) "no such device or address"
    61 Overflow "overflow" (OVERFLOW) "value too large for its type"
    62 Ownerdead "ownerdead" (OWNERDEAD) "previous owner died"
    63 Perm "perm" (PERM) "not permitted"
    64 Pipe "pipe" (PIPE) "nobody reads the other end"
    65 Proto "proto" (PROTO) "protocol error"
    66 Protonosupport "protonosupport" (PROTONOSUPPORT) "protocol not supported"
    67 Prototype "prototype" (PROTOTYPE) "wrong protocol type"
    68 Range "range" (RANGE) "result out of range"
    69 Rofs "rofs" (ROFS) "read-only file system"
    70 Spipe "spipe" (SPIPE) "not seekable"
    71 Srch "srch" (SRCH) "no such process"
    72 Stale "stale" (STALE) "stale file handle"
    73 Timedout "timedout" (TIMEDOUT) "timed out"
    74 Txtbsy "txtbsy" (TXTBSY) "program file in use"
    75 Xdev "xdev" (XDEV) "link across devices"
    76 Notcapable "notcapable" () "the descriptor does not grant this, or the path leaves its directory"
}

impl Errno {
    /// The number the program sees.
    #[must_use]
    pub fn code(self) -> u16 {
        self as u16
    }
}

impl From<Errno> for u16 {
    fn from(errno: Errno) -> Self {
        errno.code()
    }
}

/// The raw value of the function's `i32` result.
impl From<Errno> for u64 {
    fn from(errno: Errno) -> Self {
        Self::from(errno.code())
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.name(), self.code(), self.meaning())
    }
}
