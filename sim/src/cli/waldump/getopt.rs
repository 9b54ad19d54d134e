//! Splits a command line into options and operands, with the same rules and error messages as
//! glibc's getopt_long.
//!
//! pg_waldump uses getopt_long. A long name may be abbreviated, a value may follow its letter
//! directly, an option may come after operands, and `--` ends the options.

/// Whether an option takes a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Value {
    None,
    Required,
    Optional,
}

/// A long option and the equivalent letter.
pub(super) struct Long {
    pub(super) name: &'static str,
    pub(super) value: Value,
    pub(super) letter: char,
}

/// The known options.
pub(super) struct Spec {
    pub(super) long: &'static [Long],
    /// The short options in getopt's syntax: `b` takes no value, `B:` takes one.
    pub(super) short: &'static str,
}

/// An option of the command line, with its value.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Opt {
    pub(super) letter: char,
    pub(super) value: Option<Vec<u8>>,
}

/// Iterates over the arguments.
pub(super) struct GetOpt {
    spec: &'static Spec,
    /// The remaining arguments in reverse order.
    rest: Vec<Vec<u8>>,
    /// The remaining letters of the current argument.
    letters: Vec<u8>,
    /// Arguments that are not options.
    operands: Vec<Vec<u8>>,
}

impl GetOpt {
    pub(super) fn new(spec: &'static Spec, args: &[Vec<u8>]) -> Self {
        Self {
            spec,
            rest: args.iter().rev().cloned().collect(),
            letters: Vec::new(),
            operands: Vec::new(),
        }
    }

    /// The next option. Returns `None` if only operands are left.
    ///
    /// # Errors
    /// The message that getopt would print after the program name.
    pub(super) fn next(&mut self) -> Result<Option<Opt>, String> {
        if !self.letters.is_empty() {
            return self.next_letter().map(Some);
        }
        while let Some(arg) = self.rest.pop() {
            if arg == b"--" {
                break;
            }
            if let Some(long) = arg.strip_prefix(b"--") {
                return self.long(long).map(Some);
            }
            match arg.strip_prefix(b"-") {
                Some(letters) if !letters.is_empty() => {
                    self.letters = letters.to_vec();
                    return self.next_letter().map(Some);
                }
                Some(_) | None => self.operands.push(arg),
            }
        }
        Ok(None)
    }

    /// The operands in their order. The list is complete only after [`Self::next`] has returned the
    /// last option.
    pub(super) fn operands(mut self) -> Vec<Vec<u8>> {
        self.operands.extend(self.rest.into_iter().rev());
        self.operands
    }

    fn next_letter(&mut self) -> Result<Opt, String> {
        let letter = char::from(self.letters.remove(0));
        let at = self.spec.short.find(letter).filter(|_| letter != ':');
        let Some(at) = at else {
            return Err(format!("invalid option -- '{letter}'"));
        };
        let value = if self.spec.short[at + 1..].starts_with(':') {
            let attached = std::mem::take(&mut self.letters);
            let value = Some(attached).filter(|value| !value.is_empty());
            let value = value.or_else(|| self.rest.pop());
            Some(value.ok_or_else(|| format!("option requires an argument -- '{letter}'"))?)
        } else {
            None
        };
        Ok(Opt { letter, value })
    }

    fn long(&mut self, arg: &[u8]) -> Result<Opt, String> {
        let shown = String::from_utf8_lossy(arg);
        let (name, attached) = match arg.iter().position(|&byte| byte == b'=') {
            Some(at) => (&arg[..at], Some(arg[at + 1..].to_vec())),
            None => (arg, None),
        };
        let all = self.spec.long.iter();
        let exact = all.clone().find(|long| long.name.as_bytes() == name);
        let cut_short: Vec<_> = all
            .filter(|long| long.name.as_bytes().starts_with(name))
            .collect();
        let long = match (exact, &cut_short[..]) {
            (Some(long), _) | (None, &[long]) => long,
            (None, []) => return Err(format!("unrecognized option '--{shown}'")),
            (None, many) => {
                let names: String = many.iter().map(|l| format!(" '--{}'", l.name)).collect();
                return Err(format!(
                    "option '--{shown}' is ambiguous; possibilities:{names}"
                ));
            }
        };
        let value = match (long.value, attached) {
            (Value::None, Some(_)) => {
                return Err(format!(
                    "option '--{}' doesn't allow an argument",
                    long.name
                ));
            }
            (Value::Required, None) => {
                let next = self.rest.pop();
                Some(next.ok_or_else(|| format!("option '--{}' requires an argument", long.name))?)
            }
            (Value::None | Value::Optional, None) => None,
            (Value::Required | Value::Optional, attached) => attached,
        };
        let letter = long.letter;
        Ok(Opt { letter, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static SPEC: Spec = Spec {
        long: &[
            Long {
                name: "follow",
                value: Value::None,
                letter: 'f',
            },
            Long {
                name: "fork",
                value: Value::Required,
                letter: 'F',
            },
            Long {
                name: "stats",
                value: Value::Optional,
                letter: 'z',
            },
        ],
        short: "fF:z",
    };

    fn walk(args: &[&str]) -> (Vec<String>, Vec<String>) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let args: Vec<_> = args.iter().map(|arg| arg.as_bytes().to_vec()).collect();
        let mut getopt = GetOpt::new(&SPEC, &args);
        let mut found = Vec::new();
        loop {
            match getopt.next() {
                Ok(Some(opt)) => found.push(match opt.value {
                    Some(value) => format!("{}={}", opt.letter, text(&value)),
                    None => opt.letter.to_string(),
                }),
                Ok(None) => break,
                Err(complaint) => {
                    found.push(complaint);
                    break;
                }
            }
        }
        let operands = getopt.operands();
        (found, operands.iter().map(|bytes| text(bytes)).collect())
    }

    #[test]
    fn options_in_every_form() {
        for (args, options, operands) in [
            (
                &["a", "-fzFvm", "b", "-F", "vm", "--", "-z"][..],
                &["f", "z", "F=vm", "F=vm"][..],
                &["a", "b", "-z"][..],
            ),
            (
                &["--fol", "--st=rmgr", "--stats"],
                &["f", "z=rmgr", "z"],
                &[],
            ),
            (&["--fork", "-f", "-", "--fork="], &["F=-f", "F="], &["-"]),
            (&["-z", "record"], &["z"], &["record"]),
        ] {
            assert_eq!(
                walk(args),
                (strings(options), strings(operands)),
                "{args:?}"
            );
        }
    }

    /// glibc 2.36 prints these messages.
    #[test]
    fn complaints() {
        for (arg, complaint) in [
            ("-x", "invalid option -- 'x'"),
            ("-:", "invalid option -- ':'"),
            ("-F", "option requires an argument -- 'F'"),
            ("--fork", "option '--fork' requires an argument"),
            ("--follow=1", "option '--follow' doesn't allow an argument"),
            ("--nope=1", "unrecognized option '--nope=1'"),
            (
                "--fo=1",
                "option '--fo=1' is ambiguous; possibilities: '--follow' '--fork'",
            ),
        ] {
            assert_eq!(walk(&[arg]).0, [complaint]);
        }
    }

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }
}
