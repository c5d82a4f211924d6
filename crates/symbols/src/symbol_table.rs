//! The functions named by `.symtab` and `.dynsym`, by address.

use object::{Object, ObjectSymbol, SymbolKind};

#[derive(Clone, Copy, Debug)]
struct Entry {
    address: u64,
    size: u64,
    /// Lower is preferred among names of one address.
    rank: u32,
    name_start: u32,
    name_bytes: u32,
}

/// Functions by address. Several names of one address: a global one first, then the one with
/// fewest leading underscores, then the shortest.
#[derive(Debug, Default)]
pub(crate) struct SymbolTable {
    entries: Vec<Entry>,
    names: String,
}

/// A named function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NamedFunction<'a> {
    pub(crate) address: u64,
    /// 0 when the table does not tell (hand-written assembly).
    pub(crate) size: u64,
    pub(crate) name: &'a str,
}

impl SymbolTable {
    /// Adds the functions of both tables of `file`.
    pub(crate) fn add(&mut self, file: &object::File<'_>) {
        for symbol in file.symbols().chain(file.dynamic_symbols()) {
            let is_code = symbol.kind() == SymbolKind::Text
                || symbol.kind() == SymbolKind::Unknown && symbol.size() > 0;
            if !is_code || !symbol.is_definition() || symbol.address() == 0 {
                continue;
            }
            let Ok(name) = symbol.name() else { continue };
            if name.is_empty() || name.starts_with('$') {
                continue;
            }
            let underscores = name.bytes().take_while(|&byte| byte == b'_').count().min(7) as u32;
            let local = u32::from(!symbol.is_global());
            let name_start = self.names.len() as u32;
            self.names.push_str(name);
            self.entries.push(Entry {
                address: symbol.address(),
                size: symbol.size(),
                rank: local << 31 | underscores << 24 | (name.len() as u32).min(0xff_ffff),
                name_start,
                name_bytes: name.len() as u32,
            });
        }
    }

    /// Sorts; call once after the last [`Self::add`].
    pub(crate) fn finish(&mut self) {
        let names = &self.names;
        self.entries.sort_by(|a, b| {
            let name = |entry: &Entry| text(names, entry);
            (a.address, a.rank, name(a)).cmp(&(b.address, b.rank, name(b)))
        });
        // The largest size among the names of an address holds for all of them.
        self.entries.dedup_by(|next, kept| {
            let same = next.address == kept.address;
            if same {
                kept.size = kept.size.max(next.size);
            }
            same
        });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The last function that starts at or before `address`.
    pub(crate) fn nearest(&self, address: u64) -> Option<NamedFunction<'_>> {
        let after = self.entries.partition_point(|entry| entry.address <= address);
        let entry = &self.entries[after.checked_sub(1)?];
        let name = text(&self.names, entry);
        Some(NamedFunction { address: entry.address, size: entry.size, name })
    }
}

fn text<'a>(names: &'a str, entry: &Entry) -> &'a str {
    &names[entry.name_start as usize..][..entry.name_bytes as usize]
}
