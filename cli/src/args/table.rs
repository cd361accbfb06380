//! The tables of the command line: every command with its options, its examples and what else there is to know.
//!
//! *Why tables.* Help and the reader look at the same rows, so that one cannot promise what the other does not take.

/// An option.
#[derive(Debug)]
pub(crate) struct Opt {
    /// Its name, with the dashes.
    pub(crate) name: &'static str,
    /// Its short form, with the dash; empty if there is none.
    pub(crate) short: &'static str,
    /// What its value is; empty if it takes none.
    pub(crate) value: &'static str,
    /// Whether it may be given several times.
    pub(crate) is_repeatable: bool,
    /// What it does.
    pub(crate) about: &'static str,
}

/// What may follow the options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operands {
    /// One file; what follows it belongs to the program, options of any look included.
    Program,
    /// One file, with options before or after it.
    File,
    /// Files, with options among them.
    Files,
}

/// A command.
#[derive(Debug)]
pub(crate) struct Command {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it does, in one line.
    pub(crate) about: &'static str,
    /// What follows the options, as the usage line shows it.
    pub(crate) usage: &'static str,
    /// What may follow the options.
    pub(crate) operands: Operands,
    /// Uses, each with what it does.
    pub(crate) examples: &'static [(&'static str, &'static str)],
    /// The options.
    pub(crate) options: &'static [Opt],
    /// What else there is to know.
    pub(crate) notes: &'static str,
}

const fn flag(name: &'static str, about: &'static str) -> Opt {
    Opt { name, short: "", value: "", is_repeatable: false, about }
}

const fn value(name: &'static str, value: &'static str, about: &'static str) -> Opt {
    Opt { name, short: "", value, is_repeatable: false, about }
}

const fn list(name: &'static str, value: &'static str, about: &'static str) -> Opt {
    Opt { name, short: "", value, is_repeatable: true, about }
}

/// The options that every command has.
pub(crate) const COMMON: &[Opt] =
    &[Opt { name: "--help", short: "-h", value: "", is_repeatable: true, about: "Show help" }];

const INTERPRET: Opt = flag("--interpret", "Run in the reference interpreter instead of as native code");
const FUEL: Opt =
    value("--fuel", "N", "Stop after N steps: polls, at loops and calls (in interpreted IL: roots)");
const TIMEOUT: Opt =
    value("--timeout", "TIME", "Stop after TIME: seconds (`2`, `0.5`) or milliseconds (`250ms`)");
const MAX_MEMORY: Opt = value(
    "--max-memory",
    "BYTES",
    "Let memories and tables together, or the heap, not grow past BYTES (`64K`, `16M`, `1G`)",
);
const STRATEGY: Opt = value(
    "--strategy",
    "NAME",
    "Optimize by this strategy: `none` (the default), `quick`, `warm`, `hot`, `scorching`",
);
const PASSES: Opt = value("--passes", "A,B,…", "Run these passes in this order instead of a strategy");
const WARM: Opt = value(
    "--strategy",
    "NAME",
    "Optimize by this strategy: `none`, `quick`, `warm` (the default), `hot`, `scorching`",
);
const OPT_LIMIT: Opt =
    value("--opt-limit", "N", "Allow only the first N rewrites of all methods together, and deny the others");
const OUTPUT: Opt = Opt {
    name: "--output",
    short: "-o",
    value: "FILE",
    is_repeatable: false,
    about: "Write to this file instead of standard output",
};
const THREADS: Opt = value("--threads", "N", "Compile on N threads; as many as there are cores otherwise");

/// The options of commands that judge what passes do.
const JUDGING: &[Opt] = &[
    WARM,
    PASSES,
    value("--invoke", "NAME", "Call this export or method; its arguments follow FILE"),
    flag("--native", "Run IL after the passes as native code instead of in the interpreter"),
    value(
        "--command",
        "COMMAND",
        "Judge by the exit code of this; `{}` in it is a file with the IL after the passes",
    ),
    FUEL,
    OUTPUT,
];

/// All commands.
pub(crate) const COMMANDS: &[Command] = &[
    Command {
        name: "run",
        about: "Run a program, or call one of its functions",
        usage: "[OPTIONS] FILE [ARGUMENTS...]",
        operands: Operands::Program,
        examples: &[
            (
                "dagwood run --dir . examples/wordcount.wasm examples/wordcount.txt",
                "run a WASI program that may use this directory, with an argument",
            ),
            ("dagwood run --invoke add examples/numbers.wat 2 -3", "call the function exported as `add`"),
            ("dagwood run examples/gcd.dag", "run `@main` of a file of IL"),
            ("dagwood run frontends/olive/programs/queens.olive", "run `Main.main` of a program in Olive"),
            (
                "dagwood run --bytecode --profile-out target/maps.profile frontends/olive/programs/maps.olive",
                "observe a program in Olive",
            ),
            (
                "dagwood run --interpret --invoke fib examples/numbers.wat 15",
                "the same programs in the reference interpreter",
            ),
            (
                "dagwood run --timeout 500ms --invoke spin examples/numbers.wat",
                "keep an endless loop from being one",
            ),
        ],
        options: &[
            INTERPRET,
            flag("--bytecode", "Run Olive in the interpreter of its bytecode"),
            value("--profile-out", "FILE", "Write what --bytecode observes to FILE"),
            value("--profile-in", "FILE", "Compile Olive for a program that behaves as FILE says"),
            value("--invoke", "NAME", "Call this export or method; its arguments follow FILE"),
            list(
                "--dir",
                "HOST[::GUEST]",
                "Let the program read and write below the directory HOST, which it sees as GUEST",
            ),
            list("--read-dir", "HOST[::GUEST]", "The same, for reading only"),
            list(
                "--env",
                "NAME=VALUE",
                "Set a variable of the program's environment, which is empty otherwise",
            ),
            FUEL,
            TIMEOUT,
            MAX_MEMORY,
            STRATEGY,
            OPT_LIMIT,
            THREADS,
            flag("--perf-map", "Tell `perf` the names of compiled functions, in /tmp/perf-PID.map"),
            value(
                "--jitdump",
                "DIR",
                "Write DIR/jit-PID.dump, for `perf record -k 1` and `perf inject --jit`",
            ),
            flag("--gdb", "Tell debuggers the names of compiled functions"),
        ],
        notes: "\
FILE is a WebAssembly module (.wasm, or .wat text), Dagwood's IL (.dag text), or
a program in Olive, the small object-oriented guest (.olive text). A module runs
from `_start`, IL from `@main`, Olive from `Main.main`. Options stand before FILE;
everything after FILE is the program's, and `--` ends the options early.
Byte offsets in messages about .wat are those of its binary form.

Arguments of --invoke are numbers of the parameters' types: decimal or 0x for
integers, decimal, `inf`, `nan` or 0x and bits for floats; references are `null`.
Results are printed one a line, each with its type.

A program sees its arguments and the standard streams; of the files, nothing
but what --dir and --read-dir grant. IL may declare the natives @print_i32,
@print_i64, @print_f32 and @print_f64. As native code its loads and stores go
wherever it says: read IL of others before you run it, or use --interpret.",
    },
    Command {
        name: "check",
        about: "Say whether files are valid, and where they are not",
        usage: "[OPTIONS] FILE...",
        operands: Operands::Files,
        examples: &[
            (
                "dagwood check examples/wordcount.wasm examples/numbers.wat",
                "validate modules; errors have byte offsets",
            ),
            ("dagwood check examples/gcd.dag", "parse and verify IL; errors have line, column and rule"),
            ("dagwood check frontends/olive/programs/maps.olive", "verify a program in Olive"),
            (
                "dagwood check --differential --timeout 1 examples/numbers.wat",
                "also run it in both engines and compare",
            ),
        ],
        options: &[
            flag("--differential", "Run every export or method without parameters in both engines; compare"),
            FUEL,
            TIMEOUT,
            MAX_MEMORY,
            STRATEGY,
            THREADS,
        ],
        notes: "\
Every file is checked, also after one that is wrong. The exit code is 1 if any was.
A limit given for --differential holds for each call; without one it takes 10 s.",
    },
    Command {
        name: "print",
        about: "Print the IL of a module, or IL in its canonical form",
        usage: "[OPTIONS] FILE",
        operands: Operands::File,
        examples: &[
            ("dagwood print examples/numbers.wat", "the IL of all functions, with its declarations"),
            ("dagwood print --function main examples/wordcount.wasm", "the IL of one function"),
            ("dagwood print examples/gcd.dag", "the same IL as the printer writes it"),
            (
                "dagwood print --function List.sort frontends/olive/programs/lists.olive",
                "IL with frame states",
            ),
        ],
        options: &[value("--function", "NAME|INDEX", "Only this function or method")],
        notes: "\
A function is found by its name in the module, an export, its method's name, or
its index among all functions, imported ones first.",
    },
    Command {
        name: "compile",
        about: "Compile without running, and show what comes out",
        usage: "--emit il|clif|asm [OPTIONS] FILE",
        operands: Operands::File,
        examples: &[
            (
                "dagwood compile --emit asm --function fib examples/numbers.wat",
                "the machine code, with the IL beside it",
            ),
            ("dagwood compile --emit clif examples/gcd.dag", "what Cranelift is given"),
            (
                "dagwood compile --emit asm --bytes -o target/gcd.lst examples/gcd.dag",
                "with encodings, to a file",
            ),
        ],
        options: &[
            value("--emit", "il|clif|asm", "What to print: IL after the passes, Cranelift's IR, or assembly"),
            STRATEGY,
            OPT_LIMIT,
            value("--function", "NAME|INDEX", "Only this function or method, as in `print`"),
            flag("--bytes", "Show the bytes of each instruction (with --emit asm)"),
            flag("--polls", "Compile WebAssembly with the polls that --fuel and --timeout ask for"),
            OUTPUT,
        ],
        notes: "\
Assembly is in NASM's syntax for the processor at hand. A comment names the node
of the IL wherever a new one begins; `print` numbers nodes afresh, this does not.",
    },
    Command {
        name: "opt",
        about: "Run passes over IL, and show what comes out and why",
        usage: "[OPTIONS] FILE",
        operands: Operands::File,
        examples: &[
            ("dagwood opt examples/gcd.dag", "the IL after the passes of `warm`"),
            (
                "dagwood opt --remarks text --ledger examples/numbers.wat",
                "what passes did and did not, who ran and why",
            ),
            (
                "dagwood opt --passes rebuild,mark_cold --dump-after all examples/gcd.dag",
                "the IL after each of these passes",
            ),
            ("dagwood opt --strategy hot --time-passes examples/wordcount.wasm", "where the time goes"),
        ],
        options: &[
            WARM,
            PASSES,
            value("--function", "NAME|INDEX", "Only this function or method, as in `print`"),
            flag("--emit", "Print the IL after the passes; so it is if nothing else is to be printed"),
            value("--dump-after", "PASS|all", "Print the IL after each run of this pass, or of every pass"),
            value("--remarks", "text|json", "Say what was done, and what was not and why"),
            flag(
                "--ledger",
                "Say what ran, who asked for it, what it changed and cost, and what was skipped",
            ),
            flag("--time-passes", "Say how long each pass took, over all methods"),
            flag("--verify", "Verify each method after each pass"),
            flag(
                "--every-row",
                "Run all rows of the strategy on all methods: what demands and conditions save",
            ),
            OPT_LIMIT,
            value(
                "--budget",
                "N",
                "Let the passes use N units of work for each method, not what the strategy says",
            ),
            value("--seed", "N", "Shuffle what should not matter; 0, the default, does not"),
            OUTPUT,
        ],
        notes: "\
Nodes in remarks have the numbers of the method as it was when its pass looked
at it; a number behind `!` is a position in the source.",
    },
    Command {
        name: "bisect",
        about: "Find the first rewrite of the passes that changes what a program does",
        usage: "[OPTIONS] FILE [ARGUMENTS...]",
        operands: Operands::Program,
        examples: &[
            (
                "dagwood bisect --invoke gcd examples/gcd.dag 12 18",
                "compare with the interpreter, without passes",
            ),
            (
                "dagwood bisect --command 'dagwood run {}' examples/gcd.dag",
                "let a command judge the IL after the passes, by its exit code",
            ),
        ],
        options: JUDGING,
        notes: "\
The outcome is that of the interpreter before and after the passes, or with
--native that of the code; a pass that panics or breaks its method is bad anyway.
A module is run as native code and held against the interpreter. The exit code is
1 if a rewrite, or the program without any, is to blame.",
    },
    Command {
        name: "reduce",
        about: "Shrink a file of IL for as long as passes go wrong on it in the same way",
        usage: "[OPTIONS] FILE [ARGUMENTS...]",
        operands: Operands::Program,
        examples: &[
            (
                "dagwood reduce --passes rebuild --invoke gcd -o target/small.dag examples/gcd.dag 12 18",
                "keep the difference between the interpreter before and after",
            ),
            (
                "dagwood reduce --command '! dagwood run {} | grep -q 13' examples/gcd.dag",
                "keep what makes a command fail",
            ),
        ],
        options: JUDGING,
        notes: "\
What goes wrong is told as `bisect` tells it: another outcome, a fault of the same
pass, or a command that fails. Methods, blocks, roots, values and lines are left
out as long as it stays. What is left is printed.",
    },
];
