//! What `/admin/v1/openapi.json` says: what this API is, in OpenAPI 3.1, made from the handlers themselves.

use cloakroom_protocol::internal_api::Problem;
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, ResponseBuilder,
    SecurityRequirement, Server,
};
use utoipa::{PartialSchema, ToSchema};

use crate::endpoint::caller::ADMIN_API;

/// What is true of the whole; each operation comes from its handler.
pub fn base() -> OpenApi {
    let info = InfoBuilder::new()
        .title("Cloakroom admin API")
        .version("1")
        .description(Some("For administrators, on the auth service's internal port. Errors are RFC 9457 problems."))
        .build();
    let components = ComponentsBuilder::new()
        .schema(Problem::name(), Problem::schema())
        .security_scheme("bearer", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)))
        .build();
    OpenApiBuilder::new()
        .info(info)
        .servers(Some([Server::new(ADMIN_API)]))
        .components(Some(components))
        .security(Some([SecurityRequirement::new("bearer", [] as [&str; 0])]))
        .build()
}

/// With the errors that every operation can answer with, by what it takes.
pub fn with_problems(mut api: OpenApi) -> OpenApi {
    let operations = api.paths.paths.values_mut().flat_map(|item| {
        [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete].into_iter().flatten()
    });
    for operation in operations {
        add_problems(operation);
    }
    api
}

fn add_problems(operation: &mut Operation) {
    let parameters = operation.parameters.as_deref().unwrap_or_default();
    let of_a_thing =
        parameters.iter().any(|parameter| matches!(parameter, RefOr::T(one) if one.parameter_in == ParameterIn::Path));
    let takes_body = operation.request_body.is_some();
    let mut problems = vec![
        ("401", "No bearer token, or one that is not accepted."),
        ("403", "The caller may not do this."),
        ("408", "The request came in too slowly."),
        ("500", "A mistake of the service's; its log says more."),
        ("503", "The store, or what decides who the caller is, does not answer: try again."),
    ];
    if of_a_thing || takes_body || !parameters.is_empty() {
        problems.push(("400", "Path, query or body cannot be read as what they should be."));
    }
    if of_a_thing {
        problems.push(("404", "There is no such thing."));
        problems.push(("409", "It was changed by somebody else meanwhile."));
    }
    if takes_body {
        problems.push(("413", "The body is too large."));
        problems.push(("415", "The body does not say that it is application/json."));
        problems.push(("422", "Well-formed, but not acceptable; `detail` says why."));
    }
    let responses = &mut operation.responses.responses;
    for (status, description) in problems {
        let response = || ResponseBuilder::new().description(description).build().into();
        responses.entry(status.to_owned()).or_insert_with(response);
    }
    for (status, response) in responses {
        if let RefOr::T(response) = response
            && status.starts_with(['4', '5'])
        {
            let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(Problem::name()))).build();
            response.content.insert("application/problem+json".to_owned(), content.into());
        }
    }
}
