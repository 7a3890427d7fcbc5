//! How much of everything a component may have. The compiler's own process bounds what gets past this; what is here
//! refuses the absurd in milliseconds, by name, before a process is started for it.

use wasmparser::{BinaryReaderError, FunctionBody, ImportSectionReader, Payload, TypeRef};

use super::Refused;

/// One bound.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    /// What is counted.
    pub what: &'static str,
    /// How many there may be.
    pub most: u64,
    /// Why.
    pub reason: &'static str,
}

/// The bounds, in the order in which they are counted.
pub const BOUNDS: [Bound; 15] = [
    Bound { what: "nested components and modules", most: 8, reason: "tools nest three deep; a compiler recurses" },
    Bound { what: "modules", most: 200, reason: "each may become an instance, and a slot has 200" },
    Bound { what: "component types", most: 20_000, reason: "checking them against each other is more than linear" },
    Bound { what: "core types", most: 50_000, reason: "a Python runtime has 2,000; each is compared with the others" },
    Bound { what: "functions", most: 200_000, reason: "a Python runtime has 30,000; each costs a compilation" },
    Bound { what: "imports and exports", most: 100_000, reason: "each is a name to look up" },
    Bound { what: "instances and aliases", most: 100_000, reason: "each is a step of every instantiation" },
    Bound { what: "globals", most: 100_000, reason: "each is set at every instantiation" },
    Bound { what: "memories and tables", most: 96, reason: "a slot has room for 32 memories and 64 tables" },
    Bound { what: "memories in one module", most: 1, reason: "more are for the engine's own code between components" },
    Bound { what: "data and element segments", most: 200_000, reason: "each may be copied at every instantiation" },
    Bound { what: "bytes in one function", most: 1 << 20, reason: "compiling one function is more than linear" },
    Bound { what: "locals in one function", most: 20_000, reason: "each is a value that the compiler follows" },
    Bound { what: "bytes of custom sections", most: 32 << 20, reason: "names and debugging, which no run needs" },
    Bound { what: "sections", most: 200_000, reason: "a file of tiny sections is read one by one" },
];

const NESTING: usize = 0;
const MODULES: usize = 1;
const COMPONENT_TYPES: usize = 2;
const CORE_TYPES: usize = 3;
const FUNCTIONS: usize = 4;
const NAMES: usize = 5;
const INSTANCES: usize = 6;
const GLOBALS: usize = 7;
const MEMORIES: usize = 8;
const MEMORIES_OF_ONE: usize = 9;
const SEGMENTS: usize = 10;
const BODY: usize = 11;
const LOCALS: usize = 12;
const CUSTOM: usize = 13;
const SECTIONS: usize = 14;

/// Counts while a component is read.
#[derive(Debug, Default)]
pub(super) struct Tally([u64; BOUNDS.len()]);

impl Tally {
    /// Counts what one part of the file declares. `depth` is how many modules and components are around it.
    pub(super) fn see(&mut self, payload: &Payload<'_>, depth: u32) -> Result<(), Refused> {
        Self::most(NESTING, depth.into())?;
        if !matches!(payload, Payload::CodeSectionEntry(_)) {
            self.add(SECTIONS, 1)?;
        }
        match payload {
            Payload::ModuleSection { .. } => {
                // Modules stand in components and never in each other.
                self.0[MEMORIES_OF_ONE] = 0;
                self.add(MODULES, 1)
            }
            Payload::ComponentTypeSection(types) => self.add(COMPONENT_TYPES, types.count().into()),
            Payload::TypeSection(types) => self.add(CORE_TYPES, types.count().into()),
            Payload::CoreTypeSection(types) => self.add(CORE_TYPES, types.count().into()),
            Payload::FunctionSection(functions) => self.add(FUNCTIONS, functions.count().into()),
            Payload::ComponentCanonicalSection(functions) => self.add(FUNCTIONS, functions.count().into()),
            Payload::ImportSection(names) => self.imports(names),
            Payload::ExportSection(names) => self.add(NAMES, names.count().into()),
            Payload::ComponentImportSection(names) => self.add(NAMES, names.count().into()),
            Payload::ComponentExportSection(names) => self.add(NAMES, names.count().into()),
            Payload::InstanceSection(instances) => self.add(INSTANCES, instances.count().into()),
            Payload::ComponentInstanceSection(instances) => self.add(INSTANCES, instances.count().into()),
            Payload::ComponentAliasSection(aliases) => self.add(INSTANCES, aliases.count().into()),
            Payload::GlobalSection(globals) => self.add(GLOBALS, globals.count().into()),
            Payload::MemorySection(memories) => {
                self.add(MEMORIES_OF_ONE, memories.count().into())?;
                self.add(MEMORIES, memories.count().into())
            }
            Payload::TableSection(tables) => self.add(MEMORIES, tables.count().into()),
            Payload::DataSection(segments) => self.add(SEGMENTS, segments.count().into()),
            Payload::ElementSection(segments) => self.add(SEGMENTS, segments.count().into()),
            Payload::CustomSection(custom) => self.add(CUSTOM, custom.data().len() as u64),
            Payload::CodeSectionEntry(body) => Self::body(body),
            _ => Ok(()),
        }
    }

    fn imports(&mut self, names: &ImportSectionReader<'_>) -> Result<(), Refused> {
        self.add(NAMES, names.count().into())?;
        for import in names.clone().into_imports() {
            let import = import.map_err(|e| Refused::Malformed(e.to_string()))?;
            if matches!(import.ty, TypeRef::Memory(_)) {
                self.add(MEMORIES_OF_ONE, 1)?;
            }
        }
        Ok(())
    }

    fn body(body: &FunctionBody<'_>) -> Result<(), Refused> {
        Self::most(BODY, body.as_bytes().len() as u64)?;
        let malformed = |e: BinaryReaderError| Refused::Malformed(e.to_string());
        let mut locals = 0_u64;
        for local in body.get_locals_reader().map_err(malformed)? {
            // A few bytes can declare four thousand million of them.
            locals += u64::from(local.map_err(malformed)?.0);
            Self::most(LOCALS, locals)?;
        }
        Ok(())
    }

    fn add(&mut self, which: usize, count: u64) -> Result<(), Refused> {
        self.0[which] += count;
        Self::most(which, self.0[which])
    }

    fn most(which: usize, count: u64) -> Result<(), Refused> {
        let Bound { what, most, reason } = BOUNDS[which];
        if count > most { Err(Refused::TooMuch { what, count, most, reason }) } else { Ok(()) }
    }
}
