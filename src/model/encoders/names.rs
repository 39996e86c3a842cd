//! The names of an encoder's parameters in the files of different libraries, as tables.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use candle_core::Tensor;

use crate::model::weight_names::Renamed;

/// How another library, or another version of transformers, names what a family names otherwise.
pub struct Spelling {
    /// What stands before the number of a block.
    pub block: &'static str,
    /// The beginnings of names outside of the blocks, and what they become.
    pub outside: &'static [(&'static str, &'static str)],
    /// The beginnings of names after the number of a block, and what they become. Others are refused: leaving out a
    /// part of a block would make another model of it.
    pub inside: &'static [(&'static str, &'static str)],
    /// The beginnings of names of query, key and value in one, and what the three become.
    pub fused: &'static [(&'static str, [&'static str; 3])],
    /// The beginnings of names outside of the blocks that only another kind of model has.
    pub refused: &'static [&'static str],
}

/// The names of a family.
pub struct Names {
    /// What files put before the names of an encoder that is part of something else.
    pub prefixes: &'static [&'static str],
    /// What stands before every name here.
    pub under: &'static str,
    /// What names begin with.
    pub roots: &'static [&'static str],
    /// What belongs to something else although it begins so.
    pub dropped: &'static [&'static str],
    /// What stands before the number of a block.
    pub block: &'static str,
    /// Other spellings.
    pub spellings: &'static [Spelling],
}

impl Names {
    /// Translates the names of a file, whichever spelling they have. Fused projections are split.
    ///
    /// # Errors
    /// Blocks of another kind of model; two tensors of one name.
    pub fn take(&self, tensors: BTreeMap<String, Tensor>) -> anyhow::Result<Renamed> {
        let mut renamed = Renamed::default();
        for (source, tensor) in tensors {
            let entries = self.entries(&source, &tensor)?;
            if entries.is_empty() {
                renamed.unused.push(source.clone());
            }
            for (name, tensor) in entries {
                renamed.insert(format!("{}{name}", self.under), tensor, &source)?;
            }
        }
        Ok(renamed)
    }

    fn entries(&self, source: &str, tensor: &Tensor) -> anyhow::Result<Vec<(String, Tensor)>> {
        let name = self.without_prefix(source);
        if self.dropped.contains(&name) {
            return Ok(Vec::new());
        }
        for spelling in self.spellings {
            if let Some(entries) = spelling.entries(self.block, name, tensor)? {
                return Ok(entries);
            }
        }
        let is_known = self.roots.iter().any(|root| name.starts_with(root));
        Ok(if is_known { vec![(name.to_owned(), tensor.clone())] } else { Vec::new() })
    }

    /// The layers that a layer of another spelling becomes: one, or query, key and value, which are thirds of its rows.
    ///
    /// # Errors
    /// A layer that no spelling has.
    pub fn layers(&self, layer: &str) -> anyhow::Result<Vec<String>> {
        for spelling in self.spellings {
            if let Some(names) = spelling.names(self.block, &format!("{layer}."))? {
                return Ok(names.iter().map(|name| name.trim_end_matches('.').to_owned()).collect());
            }
        }
        bail!("the layer {layer} has no other name")
    }

    fn without_prefix<'a>(&self, source: &'a str) -> &'a str {
        let after = |prefix: &&str| {
            let begins =
                if source.starts_with(prefix) { Some(0) } else { source.find(&format!(".{prefix}")).map(|at| at + 1) };
            begins.map(|at| &source[at + prefix.len()..]).filter(|rest| self.is_root(rest))
        };
        self.prefixes.iter().find_map(after).unwrap_or(source)
    }

    fn is_root(&self, name: &str) -> bool {
        let spelled = self
            .spellings
            .iter()
            .flat_map(|spelling| spelling.outside.iter().map(|(from, _)| *from).chain([spelling.block]));
        self.roots.iter().copied().chain(spelled).any(|root| name.starts_with(root))
    }
}

impl Spelling {
    /// The name in this spelling of a layer in a block of the family with these `names`; any other as it is.
    pub fn of_layer(&self, names: &Names, layer: &str) -> String {
        let Some((index, part)) = layer.strip_prefix(names.block).and_then(|rest| rest.split_once('.')) else {
            return layer.to_owned();
        };
        let spelled = self.inside.iter().find_map(|(from, to)| (*to == format!("{part}.")).then_some(*from));
        let part = spelled.map_or(part, |spelled| spelled.trim_end_matches('.'));
        format!("{}{index}.{part}", self.block)
    }

    /// What a tensor becomes; `None` if its name is not of this spelling.
    fn entries(&self, block: &str, name: &str, tensor: &Tensor) -> anyhow::Result<Option<Vec<(String, Tensor)>>> {
        let Some(mut names) = self.names(block, name)? else { return Ok(None) };
        if names.len() == 1 {
            return Ok(names.pop().map(|name| vec![(name, tensor.clone())]));
        }
        let rows = tensor.dim(0).with_context(|| format!("{name} has no rows"))?;
        if !rows.is_multiple_of(names.len()) {
            bail!("{name}: {rows} rows are not query, key and value of one size");
        }
        let pieces = tensor.chunk(names.len(), 0)?;
        names
            .into_iter()
            .zip(pieces)
            .map(|(name, piece)| Ok((name, piece.contiguous()?)))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// What the name of a tensor becomes: one, or those of query, key and value; `None` if it is not of this spelling.
    fn names(&self, block: &str, name: &str) -> anyhow::Result<Option<Vec<String>>> {
        if self.refused.iter().any(|from| name.starts_with(from)) {
            bail!(of_another_kind(name));
        }
        if let Some(name) = replaced(self.outside, name) {
            return Ok(Some(vec![name]));
        }
        let Some((index, part)) = name.strip_prefix(self.block).and_then(|rest| rest.split_once('.')) else {
            return Ok(None);
        };
        let fused = self.fused.iter().find_map(|(from, to)| Some((part.strip_prefix(from)?, to)));
        if let Some((rest, to)) = fused {
            return Ok(Some(to.iter().map(|to| format!("{block}{index}.{to}{rest}")).collect()));
        }
        let part = replaced(self.inside, part).with_context(|| of_another_kind(name))?;
        Ok(Some(vec![format!("{block}{index}.{part}")]))
    }
}

fn of_another_kind(name: &str) -> String {
    format!("the tensor {name} belongs to a kind of model that is not supported")
}

fn replaced(table: &[(&str, &str)], name: &str) -> Option<String> {
    table.iter().find_map(|(from, to)| name.strip_prefix(from).map(|rest| format!("{to}{rest}")))
}
