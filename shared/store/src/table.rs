//! The table's definition, shared with the templates under `infra/`.

use crate::item::EXPIRES;
use crate::{Fault, Store};
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection, ProjectionType,
    ScalarAttributeType, TimeToLiveSpecification,
};
use serde::Deserialize;

const DEFINITION: &str = include_str!("../../../infra/table.json");

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Definition {
    attribute_definitions: Vec<Attribute>,
    key_schema: Vec<KeyPart>,
    global_secondary_indexes: Vec<Index>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Attribute {
    attribute_name: String,
    attribute_type: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct KeyPart {
    attribute_name: String,
    key_type: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Index {
    index_name: String,
    key_schema: Vec<KeyPart>,
}

impl Store {
    /// Creates the table with its indexes and its TTL unless it exists; for the embedded engine and for emulators.
    ///
    /// # Errors
    /// The engine refuses.
    pub async fn create_table(&self) -> Result<(), Fault> {
        let table = &self.settings.table;
        let created = match self.definition()?.send().await {
            Ok(_) => true,
            Err(error) if error.code() == Some("ResourceInUseException") => false,
            Err(error) => return Err(unavailable(&error)),
        };
        if created {
            let ttl = TimeToLiveSpecification::builder().enabled(true).attribute_name(EXPIRES).build();
            let ttl = ttl.map_err(|error| Fault::Corrupt(error.to_string()))?;
            self.client
                .update_time_to_live()
                .table_name(table)
                .time_to_live_specification(ttl)
                .send()
                .await
                .map_err(|error| unavailable(&error))?;
        }
        Ok(())
    }

    fn definition(
        &self,
    ) -> Result<aws_sdk_dynamodb::operation::create_table::builders::CreateTableFluentBuilder, Fault> {
        let wrong = |error: &dyn std::error::Error| Fault::Corrupt(format!("infra/table.json: {error}"));
        let definition: Definition = serde_json::from_str(DEFINITION).map_err(|e| wrong(&e))?;
        let mut create =
            self.client.create_table().table_name(&self.settings.table).billing_mode(BillingMode::PayPerRequest);
        for attribute in definition.attribute_definitions {
            let attribute = AttributeDefinition::builder()
                .attribute_name(attribute.attribute_name)
                .attribute_type(ScalarAttributeType::from(attribute.attribute_type.as_str()))
                .build();
            create = create.attribute_definitions(attribute.map_err(|e| wrong(&e))?);
        }
        create = create.set_key_schema(Some(key_schema(definition.key_schema).map_err(|e| wrong(&e))?));
        for index in definition.global_secondary_indexes {
            let index = GlobalSecondaryIndex::builder()
                .index_name(index.index_name)
                .set_key_schema(Some(key_schema(index.key_schema).map_err(|e| wrong(&e))?))
                .projection(Projection::builder().projection_type(ProjectionType::KeysOnly).build())
                .build();
            create = create.global_secondary_indexes(index.map_err(|e| wrong(&e))?);
        }
        Ok(create)
    }
}

fn key_schema(parts: Vec<KeyPart>) -> Result<Vec<KeySchemaElement>, aws_sdk_dynamodb::error::BuildError> {
    parts
        .into_iter()
        .map(|part| {
            KeySchemaElement::builder()
                .attribute_name(part.attribute_name)
                .key_type(KeyType::from(part.key_type.as_str()))
                .build()
        })
        .collect()
}

fn unavailable(error: &(impl ProvideErrorMetadata + std::error::Error)) -> Fault {
    Fault::Unavailable(format!("{}: {}", error.code().unwrap_or("no answer"), error.message().unwrap_or_default()))
}
