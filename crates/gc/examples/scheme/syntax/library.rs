//! Libraries: which names each has, what they export, and how they import from each other.

use super::expand::{Expanded, Expander, Tree, wrong};
use super::scope::{Binding, Form, Scope, symbol_of};
use crate::interpreter::error::Error;
use crate::interpreter::roots::Memory;
use crate::interpreter::text::print::print;
use crate::interpreter::text::read::Reader;
use crate::interpreter::value::{
    Kind, UNDEFINED, UNSPECIFIED, Word, bytes, get, is_kind, list, text,
};
use std::collections::HashMap;

/// Every library of the report exports all of the language here.
const STANDARD: &[&str] = &[
    "base",
    "case-lambda",
    "char",
    "complex",
    "cxr",
    "eval",
    "file",
    "inexact",
    "lazy",
    "load",
    "process-context",
    "r5rs",
    "read",
    "repl",
    "time",
    "write",
];

type Name = Box<[u8]>;

#[derive(Default)]
struct Environment {
    bindings: HashMap<Name, (Binding, bool)>,
    /// Outer and inner names; all of them if it does not say.
    exports: Option<Vec<(Name, Name)>>,
}

/// All libraries, and the names of global variables.
pub struct Libraries {
    environments: Vec<Environment>,
    numbers: HashMap<String, usize>,
    names: Vec<String>,
}

impl Libraries {
    /// The system's library: all the language, and names beginning with `%` that only it uses.
    pub const SYSTEM: usize = 0;
    /// Where programs are evaluated.
    pub const PROGRAM: usize = 1;
    pub const FEATURES: &[&str] = &[
        "r7rs",
        "exact-closed",
        "exact-complex",
        "ieee-float",
        "full-unicode",
        "ratios",
        "heapwright",
    ];

    pub fn new() -> Self {
        let mut system = Environment::default();
        for (form, name) in Form::ALL {
            system.bindings.insert(name.as_bytes().into(), (Binding::Special(*form), true));
        }
        let standard = STANDARD.iter().map(|name| (format!("(scheme {name})"), Self::SYSTEM));
        Self {
            environments: vec![system, Environment::default()],
            numbers: standard.collect(),
            names: Vec::new(),
        }
    }

    /// What a symbol means at the top level of a library.
    pub fn find(&self, library: usize, symbol: Word) -> Binding {
        let found = self.environments[library].bindings.get(bytes(symbol));
        found.map_or(Binding::Free(library, symbol), |(binding, _)| binding.clone())
    }

    /// Whether `name` means a variable of another library; those cannot be assigned.
    pub fn is_imported(&self, scope: &Scope, name: Word) -> bool {
        let Err(library) = scope.find(name) else { return false };
        let found = self.environments[library].bindings.get(bytes(symbol_of(name)));
        matches!(found, Some((Binding::Global(_), false)))
    }

    pub fn bind(&mut self, library: usize, symbol: Word, binding: Binding) {
        self.environments[library].bindings.insert(bytes(symbol).into(), (binding, true));
    }

    /// The number of a variable of a library: its own, and new if there was none.
    pub fn define(&mut self, memory: &mut Memory, library: usize, symbol: Word) -> u32 {
        self.define_bytes(memory, library, bytes(symbol))
    }

    fn define_bytes(&mut self, memory: &mut Memory, library: usize, name: &[u8]) -> u32 {
        if let Some((Binding::Global(number), true)) = self.environments[library].bindings.get(name)
        {
            return *number;
        }
        memory.roots.globals.push(UNDEFINED);
        self.names.push(String::from_utf8_lossy(name).into_owned());
        let number = (self.names.len() - 1) as u32;
        let binding = (Binding::Global(number), true);
        self.environments[library].bindings.insert(name.into(), binding);
        number
    }

    /// The number of a variable of the system's library.
    pub fn system(&mut self, memory: &mut Memory, name: &str) -> u32 {
        self.define_bytes(memory, Self::SYSTEM, name.as_bytes())
    }

    pub fn name(&self, number: u32) -> &str {
        &self.names[number as usize]
    }

    /// A library without a name that has what the sets import.
    pub fn open(&mut self) -> usize {
        self.environments.push(Environment::default());
        self.environments.len() - 1
    }

    pub fn import_all(&mut self, from: usize, to: usize) {
        for (name, binding) in self.exported(from) {
            self.environments[to].bindings.insert(name, (binding, false));
        }
    }

    fn exported(&self, library: usize) -> Vec<(Name, Binding)> {
        let environment = &self.environments[library];
        let found =
            |name: &Name| environment.bindings.get(name).map(|(binding, _)| binding.clone());
        match &environment.exports {
            Some(exports) => {
                let pair = |(outer, inner): &(Name, Name)| Some((outer.clone(), found(inner)?));
                exports.iter().filter_map(pair).collect()
            }
            None => {
                let all = environment.bindings.iter().filter(|(name, _)| !name.starts_with(b"%"));
                all.map(|(name, (binding, _))| (name.clone(), binding.clone())).collect()
            }
        }
    }
}

impl Expander<'_> {
    /// Makes what the import sets name visible in a library.
    pub fn import(&mut self, sets: &[Word], library: usize) -> Result<(), Error> {
        for set in sets {
            for (name, binding) in self.import_set(*set)? {
                let bindings = &mut self.libraries.environments[library].bindings;
                // What is defined here already stays: importing all of the language again is free.
                let is_same = bindings.get(&name).is_some_and(|(old, _)| *old == binding);
                if !is_same {
                    bindings.insert(name, (binding, false));
                }
            }
        }
        Ok(())
    }

    fn import_set(&mut self, set: Word) -> Result<Vec<(Name, Binding)>, Error> {
        let items = list(set).filter(|items| !items.is_empty()).ok_or_else(|| wrong(set))?;
        let modifier = print(items[0], false);
        if !items.get(1).is_some_and(|inner| is_kind(*inner, Kind::Pair)) {
            let name = print(set, false);
            let number = self.libraries.numbers.get(&name);
            let number = number.ok_or_else(|| Error::syntax("a library's name", &name))?;
            return Ok(self.libraries.exported(*number));
        }
        let mut all = self.import_set(items[1])?;
        let name_of = |word: &Word| -> Name { text(*word).into_bytes().into() };
        match modifier.as_str() {
            "only" | "except" => {
                let names: Vec<Name> = items[2..].iter().map(name_of).collect();
                if let Some(missing) =
                    names.iter().find(|name| !all.iter().any(|one| one.0 == **name))
                {
                    return Err(Error::syntax(
                        "an exported name",
                        &String::from_utf8_lossy(missing),
                    ));
                }
                all.retain(|(name, _)| names.contains(name) == (modifier == "only"));
            }
            "prefix" if items.len() == 3 => {
                for (name, _) in &mut all {
                    *name = [name_of(&items[2]), name.clone()].concat().into();
                }
            }
            "rename" => {
                for pair in &items[2..] {
                    let pair =
                        list(*pair).filter(|pair| pair.len() == 2).ok_or_else(|| wrong(set))?;
                    let old = name_of(&pair[0]);
                    let found = all.iter_mut().find(|(name, _)| *name == old);
                    found.ok_or_else(|| wrong(set))?.0 = name_of(&pair[1]);
                }
            }
            _ => return Err(wrong(set)),
        }
        Ok(all)
    }

    /// `(define-library name declaration ...)`: its tree runs the library's body.
    pub fn library(&mut self, name: Word, declarations: &[Word]) -> Expanded {
        let number = self.libraries.open();
        let (mut trees, mut exports) = (vec![Tree::Constant(UNSPECIFIED)], Vec::new());
        self.declare(declarations, number, &mut trees, &mut exports)?;
        self.libraries.environments[number].exports = Some(exports);
        self.libraries.numbers.insert(print(name, false), number);
        trees.push(Tree::Constant(UNSPECIFIED));
        Ok(Tree::Sequence(trees))
    }

    fn declare(
        &mut self,
        declarations: &[Word],
        number: usize,
        trees: &mut Vec<Tree>,
        exports: &mut Vec<(Name, Name)>,
    ) -> Result<(), Error> {
        let scope = Scope::library(number);
        for declaration in declarations {
            let items = list(*declaration).filter(|items| !items.is_empty());
            let items = items.ok_or_else(|| wrong(*declaration))?;
            let rest = &items[1..];
            match print(items[0], false).as_str() {
                "import" => self.import(rest, number)?,
                "begin" => trees.extend(self.expand_all(rest, &scope)?),
                "include" => {
                    let forms = self.included(rest)?;
                    trees.extend(self.expand_all(&forms, &scope)?);
                }
                "include-library-declarations" => {
                    let inner = self.included(rest)?;
                    self.declare(&inner, number, trees, exports)?;
                }
                "cond-expand" => {
                    let inner = self.choose_clause(rest)?;
                    self.declare(&inner, number, trees, exports)?;
                }
                "export" => {
                    for spec in rest {
                        let pair = list(*spec).filter(|pair| pair.len() == 3);
                        let (inner, outer) = pair.map_or((*spec, *spec), |pair| (pair[1], pair[2]));
                        exports.push((bytes(outer).into(), bytes(inner).into()));
                    }
                }
                _ => return Err(wrong(*declaration)),
            }
        }
        Ok(())
    }

    /// The forms of the first clause of a `cond-expand` whose requirement holds.
    pub fn choose_clause(&mut self, clauses: &[Word]) -> Result<Vec<Word>, Error> {
        for clause in clauses {
            let items = list(*clause).filter(|items| !items.is_empty());
            let items = items.ok_or_else(|| wrong(*clause))?;
            if self.holds(items[0])? {
                return Ok(items[1..].to_vec());
            }
        }
        Ok(Vec::new())
    }

    fn holds(&self, requirement: Word) -> Result<bool, Error> {
        let requirement = super::scope::strip(self.memory, requirement)?;
        if !is_kind(requirement, Kind::Pair) {
            let name = print(requirement, false);
            return Ok(name == "else" || Libraries::FEATURES.contains(&name.as_str()));
        }
        let items = list(requirement).ok_or_else(|| wrong(requirement))?;
        let mut inner = items[1..].iter().map(|one| self.holds(*one));
        match print(get(requirement, 0), false).as_str() {
            "and" => inner.try_fold(true, |all, one| Ok(all && one?)),
            "or" => inner.try_fold(false, |any, one| Ok(any || one?)),
            "not" => Ok(!inner.next().ok_or_else(|| wrong(requirement))??),
            "library" if items.len() == 2 => {
                Ok(self.libraries.numbers.contains_key(&print(items[1], false)))
            }
            _ => Err(wrong(requirement)),
        }
    }

    /// The data in files.
    pub fn included(&mut self, files: &[Word]) -> Result<Vec<Word>, Error> {
        let mut forms = Vec::new();
        for file in files {
            if !is_kind(*file, Kind::String) {
                return Err(wrong(*file));
            }
            let name = text(*file);
            let content = std::fs::read_to_string(&name)
                .map_err(|error| Error::File(format!("{name}: {error}")))?;
            let mut reader = Reader::new(&content);
            while let Some(form) = reader.next(self.memory)? {
                forms.push(form);
            }
        }
        Ok(forms)
    }
}
