//! Label selectors, by the rules of Kubernetes: a selector that the API server would refuse in the injection is refused here, with
//! the policy's own field.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::Rejected;

pub(super) fn parse(selector: &LabelSelector) -> Result<LabelSelector, Rejected> {
    let labels = selector.match_labels.iter().flatten();
    let expressions = selector.match_expressions.as_deref().unwrap_or_default();
    if labels.clone().count() == 0 && expressions.is_empty() {
        let sentence = "an empty selector would select every pod of the namespace: name labels of the pods to protect";
        return Err(Rejected::new("spec.selector", sentence));
    }
    for (key, value) in labels {
        let field = "spec.selector.matchLabels";
        is_key(key).then_some(()).ok_or_else(|| Rejected::new(field, format!("{key:?} is not a label key")))?;
        is_value(value).then_some(()).ok_or_else(|| Rejected::new(field, format!("{value:?} is not a label value")))?;
    }
    for (index, expression) in expressions.iter().enumerate() {
        let field = format!("spec.selector.matchExpressions[{index}]");
        let values = expression.values.as_deref().unwrap_or_default();
        if !is_key(&expression.key) {
            return Err(Rejected::new(field, format!("{:?} is not a label key", expression.key)));
        }
        match expression.operator.as_str() {
            "In" | "NotIn" if values.is_empty() => return Err(Rejected::new(field, "In and NotIn need values")),
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" if values.is_empty() => {}
            "Exists" | "DoesNotExist" => return Err(Rejected::new(field, "Exists and DoesNotExist take no values")),
            other => {
                let sentence = format!("{other:?}: the operators are In, NotIn, Exists and DoesNotExist");
                return Err(Rejected::new(field, sentence));
            }
        }
        if let Some(value) = values.iter().find(|value| !is_value(value)) {
            return Err(Rejected::new(field, format!("{value:?} is not a label value")));
        }
    }
    Ok(selector.clone())
}

/// `[prefix/]name`: the prefix a DNS subdomain of up to 253 characters, the name up to 63 (Kubernetes, "Labels and Selectors").
fn is_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_prefix(prefix) && !name.is_empty() && is_value(name),
        None => !key.is_empty() && is_value(key),
    }
}

fn is_prefix(prefix: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    prefix.len() <= 253 && prefix.split('.').all(label)
}

fn is_value(value: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = value.as_bytes();
    value.len() <= 63
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && edge(bytes.first())
        && edge(bytes.last())
}
