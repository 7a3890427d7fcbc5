//! Changes a component by its sections, with sizes that fit again: what bytes changed at random hardly ever are.

use fastrand::Rng;
use wasmparser::{Parser, Payload};

use crate::mutate::{leb, once_in};

/// Length of a header: magic number and version.
const HEADER: usize = 8;
/// Sections of a component that hold a core module or a component.
const CORE_MODULE: u8 = 1;
const COMPONENT: u8 = 4;

/// A section: what kind, and its contents.
pub(crate) type Section = (u8, Vec<u8>);

/// The sections of a component or module; `None` when that is not what it is.
pub(crate) fn of(wasm: &[u8]) -> Option<Vec<Section>> {
    let mut rest = wasm.get(HEADER..)?;
    let mut sections = Vec::new();
    while let Some((id, after)) = rest.split_first() {
        let (size, bytes) = number(after)?;
        let body = after.get(bytes..bytes.checked_add(size)?)?;
        sections.push((*id, body.to_vec()));
        rest = &after[bytes + size..];
    }
    Some(sections)
}

/// The file of these sections.
pub(crate) fn file(header: &[u8], sections: &[Section]) -> Vec<u8> {
    let mut wasm = header[..HEADER.min(header.len())].to_vec();
    for (id, body) in sections {
        wasm.push(*id);
        wasm.extend(leb(u32::try_from(body.len()).unwrap_or(u32::MAX)));
        wasm.extend(body);
    }
    wasm
}

/// Drops, repeats, moves, swaps for another's or changes sections, and those of what is nested.
pub(crate) fn change(rng: &mut Rng, wasm: &[u8], other: &[u8]) -> Option<Vec<u8>> {
    let mut sections = of(wasm)?;
    let others = of(other).unwrap_or_default();
    for _ in 0..=rng.usize(..2) {
        if sections.is_empty() {
            break;
        }
        let at = rng.usize(..sections.len());
        let nested = matches!(sections[at].0, CORE_MODULE | COMPONENT) && sections[at].1.starts_with(b"\0asm");
        match rng.u8(..10) {
            _ if nested && !once_in(rng, 4) => {
                let inner = others.iter().find(|(id, _)| *id == sections[at].0).map_or(&[][..], |(_, body)| body);
                if let Some(changed) = change(rng, &sections[at].1, inner) {
                    sections[at].1 = changed;
                }
            }
            0 => drop(sections.remove(at)),
            1 => {
                let again = vec![sections[at].clone(); [1, 1, 9, 40][rng.usize(..4)]];
                sections.splice(at..at, again);
            }
            2 => {
                let to = rng.usize(..sections.len());
                sections.swap(at, to);
            }
            3 if !others.is_empty() => sections.insert(at, others[rng.usize(..others.len())].clone()),
            4 if !others.is_empty() => {
                let foreign = others.iter().filter(|(id, _)| *id == sections[at].0);
                if let Some((_, body)) = foreign.into_iter().nth(rng.usize(..2)) {
                    sections[at].1.clone_from(body);
                }
            }
            5 => sections[at].0 = rng.u8(..16),
            _ => crate::mutate::bytes(rng, &mut sections[at].1, &[], &[]),
        }
    }
    Some(file(wasm, &sections))
}

/// Adds a core module that is instantiated with nothing, so that what it starts with runs wherever the component does.
pub(crate) fn started(component: &[u8], module: &[u8]) -> Vec<u8> {
    let mut depth = 0_u32;
    let mut modules = 0;
    for payload in Parser::new(0).parse_all(component).map_while(Result::ok) {
        match payload {
            Payload::ModuleSection { .. } => {
                modules += u32::from(depth == 0);
                depth += 1;
            }
            Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    // A core instance section with one entry: instantiate this module with no arguments.
    let instance: Vec<u8> = [1, 0].into_iter().chain(leb(modules)).chain([0]).collect();
    let mut wasm = component.to_vec();
    wasm.extend_from_slice(&file(&[], &[(CORE_MODULE, module.to_vec()), (2, instance)]));
    wasm
}

/// A component inside of it, which nobody instantiates and everybody must read.
pub(crate) fn nested(component: &[u8], inner: &[u8]) -> Vec<u8> {
    let mut wasm = component.to_vec();
    wasm.extend_from_slice(&file(&[], &[(COMPONENT, inner.to_vec())]));
    wasm
}

fn number(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0_usize;
    for (at, byte) in bytes.iter().take(5).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    None
}
