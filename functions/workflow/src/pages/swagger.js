// Opens Swagger UI on the document beside this page. No validator is asked: nothing leaves this origin.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
});
