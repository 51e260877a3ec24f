# `make deb`: CPack's DEB generator; the libraries that the program needs are found by dpkg-shlibdeps.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME embedd)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_CONTACT "embedd maintainers <maintainers@users.noreply.invalid>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "text embeddings: inference engine and gateway in one program")
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION
"embedd runs sentence-transformers models on the CPU and serves their vectors over
HTTP to clients of OpenAI, text-embeddings-inference, Ollama and Cohere, with a
cache in SQLite, Redis or PostgreSQL. all-MiniLM-L6-v2 is included.")
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS ca-certificates)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA "${CMAKE_SOURCE_DIR}/packaging/conffiles;${CMAKE_SOURCE_DIR}/packaging/postinst;${CMAKE_SOURCE_DIR}/packaging/prerm")
set(CPACK_STRIP_FILES ON)
include(CPack)
