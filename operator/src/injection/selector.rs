//! Label selectors: as CEL, as a test on labels, and whether two of them are sure to meet.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use super::cel::{quote, quote_all};

/// A CEL expression that is true of an `object` whose labels the selector matches.
pub(super) fn to_cel(selector: &LabelSelector) -> String {
    let labels = selector.match_labels.iter().flatten().map(|(key, value)| is_in(key, std::slice::from_ref(value)));
    let expressions = selector.match_expressions.iter().flatten().map(requirement);
    let terms: Vec<String> = labels.chain(expressions).collect();
    format!("({})", terms.join(" && "))
}

fn requirement(requirement: &LabelSelectorRequirement) -> String {
    let values = requirement.values.as_deref().unwrap_or_default();
    match requirement.operator.as_str() {
        "In" => is_in(&requirement.key, values),
        "NotIn" => format!("!{}", is_in(&requirement.key, values)),
        "DoesNotExist" => format!("!{}", exists(&requirement.key)),
        // Parsing lets four operators through; this is the fourth.
        _ => exists(&requirement.key),
    }
}

fn exists(key: &str) -> String {
    format!("(has(object.metadata.labels) && {} in object.metadata.labels)", quote(key))
}

fn is_in(key: &str, values: &[String]) -> String {
    let values = quote_all(values.iter().map(String::as_str));
    format!("({} && object.metadata.labels[{}] in {values})", exists(key), quote(key))
}

/// The same judgement here: whether the API server would select these labels.
pub fn matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let mut equal = selector.match_labels.iter().flatten();
    equal.all(|(key, value)| labels.get(key) == Some(value))
        && selector.match_expressions.iter().flatten().all(|requirement| {
            let values = requirement.values.as_deref().unwrap_or_default();
            let value = labels.get(&requirement.key);
            match requirement.operator.as_str() {
                "In" => value.is_some_and(|value| values.contains(value)),
                // A label that is not there is not in the list either (Kubernetes, "Labels and Selectors").
                "NotIn" => value.is_none_or(|value| !values.contains(value)),
                "DoesNotExist" => value.is_none(),
                _ => value.is_some(),
            }
        })
}

/// Whether every pod that one of the two selects is sure to be selected by the other, so that they meet as soon as there is a pod.
pub fn one_implies_the_other(a: &LabelSelector, b: &LabelSelector) -> bool {
    implies(a, b) || implies(b, a)
}

fn implies(strict: &LabelSelector, loose: &LabelSelector) -> bool {
    let labels = |selector: &LabelSelector| selector.match_labels.clone().unwrap_or_default();
    let strict_labels = labels(strict);
    labels(loose).iter().all(|(key, value)| strict_labels.get(key) == Some(value))
        && loose
            .match_expressions
            .iter()
            .flatten()
            .all(|requirement| strict.match_expressions.iter().flatten().any(|other| other == requirement))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(yaml: &str) -> LabelSelector {
        serde_norway::from_str(yaml).unwrap()
    }

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn selecting_here_and_in_cel_is_the_same() {
        use kube::core::cel::cel::{Context, Program, Value};
        let selectors = [
            "{matchLabels: {app: shop}}",
            "{matchLabels: {app: shop, tier: web}}",
            "{matchExpressions: [{key: app, operator: In, values: [shop, cart]}]}",
            "{matchExpressions: [{key: tier, operator: NotIn, values: [test]}]}",
            "{matchExpressions: [{key: example.com/tier, operator: Exists}]}",
            "{matchLabels: {app: shop}, matchExpressions: [{key: tier, operator: DoesNotExist}]}",
        ];
        let pods = [
            labels(&[]),
            labels(&[("app", "shop")]),
            labels(&[("app", "cart")]),
            labels(&[("app", "shop"), ("tier", "web")]),
            labels(&[("app", "shop"), ("tier", "test")]),
            labels(&[("example.com/tier", "")]),
        ];
        let mut selected = 0;
        for selector in selectors.map(selector) {
            for pod in &pods {
                let mut context = Context::default();
                let object = serde_json::json!({"metadata": if pod.is_empty() { serde_json::json!({}) } else { serde_json::json!({"labels": pod}) }});
                context.add_variable("object", object).unwrap();
                let cel = Program::compile(&to_cel(&selector)).unwrap().execute(&context).unwrap();
                assert_eq!(cel, Value::Bool(matches(&selector, pod)), "{selector:?} {pod:?}");
                selected += u32::from(matches(&selector, pod));
            }
        }
        assert_eq!(selected, 15);
    }

    #[test]
    fn selectors_that_must_meet_are_known_without_pods() {
        let a = selector("{matchLabels: {app: shop}}");
        assert!(one_implies_the_other(&a, &a));
        assert!(one_implies_the_other(&a, &selector("{matchLabels: {app: shop, tier: web}}")));
        assert!(!one_implies_the_other(&a, &selector("{matchLabels: {tier: web}}")));
        assert!(!one_implies_the_other(&a, &selector("{matchLabels: {app: cart}}")));
        let narrowed = selector("{matchLabels: {app: shop}, matchExpressions: [{key: t, operator: Exists}]}");
        assert!(one_implies_the_other(&a, &narrowed));
    }
}
