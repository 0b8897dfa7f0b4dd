//! The only way to standard output and standard error for the command line.

use std::io::{self, BufWriter, Write};

use serde_json::Value;

/// Standard output, buffered until [`Out::flush`].
pub(super) struct Out {
    sink: Box<dyn Write + Send>,
}

impl Out {
    /// Standard output.
    pub(super) fn stdout() -> Self {
        Self { sink: Box::new(BufWriter::new(io::stdout())) }
    }

    /// A buffer, for tests.
    #[cfg(test)]
    pub(super) fn to(sink: impl Write + Send + 'static) -> Self {
        Self { sink: Box::new(sink) }
    }

    /// Writes bytes and a line end.
    pub(super) fn line(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.sink.write_all(bytes.as_ref())?;
        self.sink.write_all(b"\n")
    }

    /// Writes JSON on one line.
    pub(super) fn json(&mut self, value: &Value) -> io::Result<()> {
        serde_json::to_writer(&mut self.sink, value)?;
        self.sink.write_all(b"\n")
    }

    /// Everything written so far has left the process.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

/// Writes "error: ..." to standard error. That nobody reads it is no reason to fail.
pub fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "error: {text}");
}

/// Writes a remark to standard error.
pub(crate) fn remark(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
