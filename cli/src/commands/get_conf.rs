//! `alluxio getConf`: properties in force, and where they come from.

use super::{CommandError, Done};
use crate::args::{Format, GetConfArgs, Unit};
use crate::output::Out;
use alluxio_common::config::{self, Configuration, Kind, Meaning, Setting};
use serde_json::json;

/// Prints one property or all.
pub fn get_conf(conf: &Configuration, args: &GetConfArgs, out: &mut Out) -> Done {
    let Some(name) = &args.key else {
        return all(conf, args, out);
    };
    let setting = find(conf, name)?;
    match args.format {
        Format::Json => out.json_pretty(&as_json(&setting))?,
        Format::Text if args.source => out.line(setting.source.to_string())?,
        Format::Text => match args.unit {
            Some(unit) => out.line(in_unit(&setting, unit)?)?,
            None => out.line(setting.display_value())?,
        },
    }
    Ok(())
}

fn find(conf: &Configuration, name: &str) -> Result<Setting, CommandError> {
    if let Some(setting) = conf.get(name) {
        return Ok(setting);
    }
    let why = match config::meaning(name) {
        Meaning::NoEffect => "it is Alluxio's and has no effect here".to_owned(),
        Meaning::PassedThrough => "it is not set".to_owned(),
        _ => match config::nearest(name) {
            Some(near) => format!("unknown property; did you mean {near}?"),
            None => "unknown property; `alluxio getConf` lists those that are known".to_owned(),
        },
    };
    Err(CommandError::failed(format!("get property {name}: {why}")))
}

fn all(conf: &Configuration, args: &GetConfArgs, out: &mut Out) -> Done {
    if args.format == Format::Json {
        let all: Vec<_> = conf.iter_known().map(|setting| as_json(&setting)).collect();
        return Ok(out.json_pretty(&all.into())?);
    }
    for setting in conf.iter_known() {
        let (name, value) = (&setting.name, setting.display_value());
        if args.source {
            out.line(format!("{name}={value} ({})", setting.source))?;
        } else {
            out.line(format!("{name}={value}"))?;
        }
    }
    Ok(())
}

fn as_json(setting: &Setting) -> serde_json::Value {
    json!({
        "name": setting.name,
        "value": setting.display_value(),
        "source": setting.source.to_string(),
        "default": setting.key.map(|key| key.default),
    })
}

fn in_unit(setting: &Setting, unit: Unit) -> Result<String, CommandError> {
    let kind = setting.key.map(|key| key.kind);
    let value = match (kind, per(unit)) {
        (Some(Kind::Bytes), Amount::Bytes(bytes)) => config::parse_bytes(&setting.value).map(|value| value / bytes),
        (Some(Kind::Duration), Amount::Milliseconds(ms)) => {
            // Never has no unit.
            let Some(duration) = config::parse_duration(&setting.value).flatten() else {
                return Ok("-1".to_owned());
            };
            u64::try_from(duration.as_millis()).ok().map(|value| value / ms)
        }
        _ => None,
    };
    value.map(|value| value.to_string()).ok_or_else(|| {
        let what = kind.map_or_else(|| "text".to_owned(), |kind| kind.to_string());
        CommandError::Usage(format!("--unit {unit:?}: {} is {what}", setting.name))
    })
}

enum Amount {
    Bytes(u64),
    Milliseconds(u64),
}

fn per(unit: Unit) -> Amount {
    match unit {
        Unit::B => Amount::Bytes(1),
        Unit::KB => Amount::Bytes(1 << 10),
        Unit::MB => Amount::Bytes(1 << 20),
        Unit::GB => Amount::Bytes(1 << 30),
        Unit::TB => Amount::Bytes(1 << 40),
        Unit::PB => Amount::Bytes(1 << 50),
        Unit::MS => Amount::Milliseconds(1),
        Unit::S => Amount::Milliseconds(1000),
        Unit::M => Amount::Milliseconds(60_000),
        Unit::H => Amount::Milliseconds(3_600_000),
        Unit::D => Amount::Milliseconds(86_400_000),
    }
}
