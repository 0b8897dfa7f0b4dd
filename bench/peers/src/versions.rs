//! Of which version what is compared is.

const LOCK: &str = include_str!("../Cargo.lock");

/// What the lock file has; of what comes from a repository also the begin of its commit.
pub(crate) fn locked(package: &str) -> String {
    find(LOCK, package).unwrap_or_else(|| "not in Cargo.lock".into())
}

fn find(lock: &str, package: &str) -> Option<String> {
    let name = format!("name = \"{package}\"");
    let entry = lock.split("[[package]]").find(|entry| entry.lines().any(|line| line == name))?;
    let field = |name: &str| {
        let value = entry.lines().find_map(|line| line.strip_prefix(name))?;
        value.strip_prefix(" = \"")?.strip_suffix('"')
    };
    let version = field("version")?;
    match field("source").and_then(|source| source.strip_prefix("git+")?.rsplit_once('#')) {
        Some((_, commit)) => Some(format!("{version}, commit {}", commit.get(..8)?)),
        None => Some(version.to_owned()),
    }
}

/// The version in the name of a library's file that this process has loaded.
pub(crate) fn mapped(begin: &str) -> Option<String> {
    library(&std::fs::read_to_string("/proc/self/maps").ok()?, begin)
}

fn library(maps: &str, begin: &str) -> Option<String> {
    let name =
        maps.lines().filter_map(|line| line.rsplit('/').next()).find(|name| name.starts_with(begin))?;
    Some(name[begin.len()..].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_lock_file() {
        let lock = "version = 4\n\n[[package]]\nname = \"a-b\"\nversion = \"9.9.9\"\n\n[[package]]\nname = \"b\"\n\
                    version = \"1.2.3\"\nsource = \"registry+https://x\"\n\n[[package]]\nname = \"c\"\nversion = \"0.5.0\"\n\
                    source = \"git+https://x/c?rev=0123456789#0123456789\"\n";
        assert_eq!(find(lock, "b").as_deref(), Some("1.2.3"));
        assert_eq!(find(lock, "c").as_deref(), Some("0.5.0, commit 01234567"));
        assert_eq!(find(lock, "d"), None);
        for package in ["leveret-engine", "raft-engine", "mrecordlog", "fjall", "rocksdb"] {
            let version = locked(package);
            assert!(version.starts_with(|c: char| c.is_ascii_digit()), "{package}: {version}");
        }
    }

    #[test]
    fn a_library_tells_its_version_by_its_file() {
        let maps = "7f00-7f01 r--p 0 fe:00 1  /usr/lib/libc.so.6\n7f02-7f03 r-xp 0 fe:00 2  /usr/lib/librocksdb.so.7.8.3\n";
        assert_eq!(library(maps, "librocksdb.so.").as_deref(), Some("7.8.3"));
        assert_eq!(library(maps, "libnone.so."), None);
    }
}
