package kms

// The input shapes of the operations in the KMS API model (version
// 2014-11-01): members in the model's order, lengths, ranges, patterns and
// enumerations. Two facts are KMS's behaviour rather than the public model: the
// ASCII pattern on key identifiers and the order in which enumerations print.
// One is ours: grant tokens are sensitive, since they let their bearer act.
// TestModelIsKMS holds all of it against the model that the AWS SDK carries.

var (
	shapeAccountIdType                = &Shape{Type: String, Min: 12, Max: 12, Pattern: `[0-9]{12}`}
	shapeAlgorithmSpec                = &Shape{Type: String, Enum: []string{"RSAES_PKCS1_V1_5", "RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256", "RSA_AES_KEY_WRAP_SHA_1", "RSA_AES_KEY_WRAP_SHA_256", "SM2PKE"}}
	shapeAliasNameType                = &Shape{Type: String, Min: 1, Max: 256, Pattern: `^[a-zA-Z0-9:/_-]+$`}
	shapeAttestationDocumentType      = &Shape{Type: Blob, Min: 1, Max: 262144}
	shapeBackingKeyIdType             = &Shape{Type: String, Min: 64, Max: 64, Pattern: `^[a-f0-9]+$`}
	shapeBooleanType                  = &Shape{Type: Boolean}
	shapeCiphertextType               = &Shape{Type: Blob, Min: 1, Max: 6144}
	shapeCloudHsmClusterIdType        = &Shape{Type: String, Min: 19, Max: 24, Pattern: `cluster-[2-7a-zA-Z]{11,16}`}
	shapeCustomKeyStoreIdType         = &Shape{Type: String, Min: 1, Max: 64}
	shapeCustomKeyStoreNameType       = &Shape{Type: String, Min: 1, Max: 256}
	shapeCustomKeyStoreType           = &Shape{Type: String, Enum: []string{"AWS_CLOUDHSM", "EXTERNAL_KEY_STORE"}}
	shapeCustomerMasterKeySpec        = &Shape{Type: String, Enum: []string{"RSA_2048", "RSA_3072", "RSA_4096", "ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521", "ECC_SECG_P256K1", "SYMMETRIC_DEFAULT", "HMAC_224", "HMAC_256", "HMAC_384", "HMAC_512", "SM2"}}
	shapeDataKeyPairSpec              = &Shape{Type: String, Enum: []string{"RSA_2048", "RSA_3072", "RSA_4096", "ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521", "ECC_SECG_P256K1", "SM2", "ECC_NIST_EDWARDS25519", "ML_KEM_512", "ML_KEM_768", "ML_KEM_1024"}}
	shapeDataKeySpec                  = &Shape{Type: String, Enum: []string{"AES_256", "AES_128"}}
	shapeDateType                     = &Shape{Type: Timestamp}
	shapeDescriptionType              = &Shape{Type: String, Max: 8192}
	shapeDryRunModifierList           = &Shape{Type: List, Element: shapeDryRunModifierType}
	shapeDryRunModifierType           = &Shape{Type: String, Enum: []string{"IGNORE_CIPHERTEXT"}}
	shapeEncapsulationAlgorithmSpec   = &Shape{Type: String, Enum: []string{"ML_KEM"}}
	shapeEncryptionAlgorithmSpec      = &Shape{Type: String, Enum: []string{"SYMMETRIC_DEFAULT", "RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256", "SM2PKE"}}
	shapeEncryptionContextType        = &Shape{Type: Map}
	shapeExpirationModelType          = &Shape{Type: String, Enum: []string{"KEY_MATERIAL_EXPIRES", "KEY_MATERIAL_DOES_NOT_EXPIRE"}}
	shapeGrantConstraintSourceArnType = &Shape{Type: String, Min: 20, Max: 512, Pattern: `^arn:aws[a-z0-9-]*:[a-z0-9-]+:[a-z0-9-]*:[0-9]{12}:.+$`}
	shapeGrantConstraints             = &Shape{Type: Structure, Members: []Member{
		{Name: "EncryptionContextSubset", Shape: shapeEncryptionContextType},
		{Name: "EncryptionContextEquals", Shape: shapeEncryptionContextType},
		{Name: "SourceArn", Shape: shapeGrantConstraintSourceArnType},
	}}
	shapeGrantIdType                = &Shape{Type: String, Min: 1, Max: 128}
	shapeGrantNameType              = &Shape{Type: String, Min: 1, Max: 256, Pattern: `^[a-zA-Z0-9:/_-]+$`}
	shapeGrantOperation             = &Shape{Type: String, Enum: []string{"Decrypt", "Encrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom", "ReEncryptTo", "Sign", "Verify", "GetPublicKey", "CreateGrant", "RetireGrant", "DescribeKey", "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext", "GenerateMac", "VerifyMac", "DeriveSharedSecret", "Encapsulate", "Decapsulate"}}
	shapeGrantOperationList         = &Shape{Type: List, Element: shapeGrantOperation}
	shapeGrantTokenList             = &Shape{Type: List, Max: 10, Element: shapeGrantTokenType}
	shapeGrantTokenType             = &Shape{Type: String, Min: 1, Max: 8192, Sensitive: true}
	shapeImportType                 = &Shape{Type: String, Enum: []string{"NEW_KEY_MATERIAL", "EXISTING_KEY_MATERIAL"}}
	shapeIncludeKeyMaterial         = &Shape{Type: String, Enum: []string{"ALL_KEY_MATERIAL", "ROTATIONS_ONLY"}}
	shapeKeyAgreementAlgorithmSpec  = &Shape{Type: String, Enum: []string{"ECDH"}}
	shapeKeyEncryptionMechanism     = &Shape{Type: String, Enum: []string{"RSAES_OAEP_SHA_256"}}
	shapeKeyIdType                  = &Shape{Type: String, Min: 1, Max: 2048, Pattern: `^\p{ASCII}+$`}
	shapeKeyMaterialDescriptionType = &Shape{Type: String, Max: 256, Pattern: `^[a-zA-Z0-9:/_\s.-]+$`}
	shapeKeySpec                    = &Shape{Type: String, Enum: []string{"RSA_2048", "RSA_3072", "RSA_4096", "ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521", "ECC_SECG_P256K1", "ECC_NIST_EDWARDS25519", "SYMMETRIC_DEFAULT", "HMAC_224", "HMAC_256", "HMAC_384", "HMAC_512", "SM2", "ML_DSA_44", "ML_DSA_65", "ML_DSA_87", "ML_KEM_512", "ML_KEM_768", "ML_KEM_1024"}}
	shapeKeyStorePasswordType       = &Shape{Type: String, Min: 7, Max: 32, Sensitive: true}
	shapeKeyUsageType               = &Shape{Type: String, Enum: []string{"ENCRYPT_DECRYPT", "SIGN_VERIFY", "GENERATE_VERIFY_MAC", "KEY_AGREEMENT", "ENCAPSULATE_DECAPSULATE"}}
	shapeLimitType                  = &Shape{Type: Integer, Min: 1, Max: 1000}
	shapeMacAlgorithmSpec           = &Shape{Type: String, Enum: []string{"HMAC_SHA_384", "HMAC_SHA_256", "HMAC_SHA_224", "HMAC_SHA_512"}}
	shapeMarkerType                 = &Shape{Type: String, Min: 1, Max: 1024, Pattern: `[\u0020-\u00FF]*`}
	shapeMessageType                = &Shape{Type: String, Enum: []string{"RAW", "DIGEST", "EXTERNAL_MU"}}
	shapeNullableBooleanType        = &Shape{Type: Boolean}
	shapeNumberOfBytesType          = &Shape{Type: Integer, Min: 1, Max: 1024}
	shapeOriginType                 = &Shape{Type: String, Enum: []string{"AWS_KMS", "EXTERNAL", "AWS_CLOUDHSM", "EXTERNAL_KEY_STORE"}}
	shapePendingWindowInDaysType    = &Shape{Type: Integer, Min: 1, Max: 365}
	shapePlaintextType              = &Shape{Type: Blob, Min: 1, Max: 4096, Sensitive: true}
	shapePolicyNameType             = &Shape{Type: String, Min: 1, Max: 128, Pattern: `[\w]+`}
	shapePolicyType                 = &Shape{Type: String, Min: 1, Max: 131072, Pattern: `[\u0009\u000A\u000D\u0020-\u00FF]+`}
	shapePrincipalIdType            = &Shape{Type: String, Min: 1, Max: 256, Pattern: `^[\w+=,.@:/-]+$`}
	shapePublicKeyType              = &Shape{Type: Blob, Min: 1, Max: 8192}
	shapeRecipientInfo              = &Shape{Type: Structure, Members: []Member{
		{Name: "KeyEncryptionAlgorithm", Shape: shapeKeyEncryptionMechanism},
		{Name: "AttestationDocument", Shape: shapeAttestationDocumentType},
	}}
	shapeRegionType               = &Shape{Type: String, Min: 1, Max: 32, Pattern: `^([a-z]+-){2,3}\d+$`}
	shapeRotationPeriodInDaysType = &Shape{Type: Integer, Min: 90, Max: 2560}
	shapeServicePrincipalType     = &Shape{Type: String, Min: 1, Max: 128, Pattern: `^([A-Za-z0-9\-]+)\.([A-Za-z0-9\-]+)(\.[A-Za-z0-9\-]+)+$`}
	shapeSigningAlgorithmSpec     = &Shape{Type: String, Enum: []string{"RSASSA_PSS_SHA_256", "RSASSA_PSS_SHA_384", "RSASSA_PSS_SHA_512", "RSASSA_PKCS1_V1_5_SHA_256", "RSASSA_PKCS1_V1_5_SHA_384", "RSASSA_PKCS1_V1_5_SHA_512", "ECDSA_SHA_256", "ECDSA_SHA_384", "ECDSA_SHA_512", "SM2DSA", "ML_DSA_SHAKE_256", "ED25519_SHA_512", "ED25519_PH_SHA_512"}}
	shapeTag                      = &Shape{Type: Structure, Members: []Member{
		{Name: "TagKey", Shape: shapeTagKeyType, Required: true},
		{Name: "TagValue", Shape: shapeTagValueType, Required: true},
	}}
	shapeTagKeyList                            = &Shape{Type: List, Element: shapeTagKeyType}
	shapeTagKeyType                            = &Shape{Type: String, Min: 1, Max: 128}
	shapeTagList                               = &Shape{Type: List, Element: shapeTag}
	shapeTagValueType                          = &Shape{Type: String, Max: 256}
	shapeTrustAnchorCertificateType            = &Shape{Type: String, Min: 1, Max: 5000}
	shapeWrappingKeySpec                       = &Shape{Type: String, Enum: []string{"RSA_2048", "RSA_3072", "RSA_4096", "SM2"}}
	shapeXksKeyIdType                          = &Shape{Type: String, Min: 1, Max: 128, Pattern: `^[a-zA-Z0-9-_.]+$`}
	shapeXksProxyAuthenticationAccessKeyIdType = &Shape{Type: String, Min: 20, Max: 30, Pattern: `^[A-Z2-7]+$`, Sensitive: true}
	shapeXksProxyAuthenticationCredentialType  = &Shape{Type: Structure, Members: []Member{
		{Name: "AccessKeyId", Shape: shapeXksProxyAuthenticationAccessKeyIdType, Required: true},
		{Name: "RawSecretAccessKey", Shape: shapeXksProxyAuthenticationRawSecretAccessKeyType, Required: true},
	}}
	shapeXksProxyAuthenticationRawSecretAccessKeyType = &Shape{Type: String, Min: 43, Max: 64, Pattern: `^[a-zA-Z0-9\/+=]+$`, Sensitive: true}
	shapeXksProxyConnectivityType                     = &Shape{Type: String, Enum: []string{"PUBLIC_ENDPOINT", "VPC_ENDPOINT_SERVICE"}}
	shapeXksProxyUriEndpointType                      = &Shape{Type: String, Min: 10, Max: 128, Pattern: `^https://[a-zA-Z0-9.-]+$`}
	shapeXksProxyUriPathType                          = &Shape{Type: String, Min: 10, Max: 128, Pattern: `^(/[a-zA-Z0-9\/_-]+/kms/xks/v\d{1,2})$|^(/kms/xks/v\d{1,2})$`}
	shapeXksProxyVpcEndpointServiceNameType           = &Shape{Type: String, Min: 20, Max: 64, Pattern: `^(com|eu)\.amazonaws\.vpce\.([a-z]+-){2,3}\d+\.vpce-svc-[0-9a-z]+$`}
)

// operations maps an operation's name to its input members.
var operations = map[string][]Member{
	"CancelKeyDeletion": {
		{Name: "KeyId", Shape: shapeKeyIdType, Required: true},
	},
	"ConnectCustomKeyStore": {
		{Name: "CustomKeyStoreId", Shape: shapeCustomKeyStoreIdType, Required: true},
	},
	"CreateAlias": {
		{Name: "AliasName", Shape: shapeAliasNameType, Required: true},
		{Name: "TargetKeyId", Shape: shapeKeyIdType, Required: true},
	},
	"CreateCustomKeyStore": {
		{Name: "CustomKeyStoreName", Shape: shapeCustomKeyStoreNameType, Required: true},
		{Name: "CloudHsmClusterId", Shape: shapeCloudHsmClusterIdType},
		{Name: "TrustAnchorCertificate", Shape: shapeTrustAnchorCertificateType},
		{Name: "KeyStorePassword", Shape: shapeKeyStorePasswordType},
		{Name: "CustomKeyStoreType", Shape: shapeCustomKeyStoreType},
		{Name: "XksProxyUriEndpoint", Shape: shapeXksProxyUriEndpointType},
		{Name: "XksProxyUriPath", Shape: shapeXksProxyUriPathType},
		{Name: "XksProxyVpcEndpointServiceName", Shape: shapeXksProxyVpcEndpointServiceNameType},
		{Name: "XksProxyVpcEndpointServiceOwner", Shape: shapeAccountIdType},
		{Name: "XksProxyAuthenticationCredential", Shape: shapeXksProxyAuthenticationCredentialType},
		{Name: "XksProxyConnectivity", Shape: shapeXksProxyConnectivityType},
	},
	"CreateGrant": {
		{Name: "KeyId", Shape: shapeKeyIdType, Required: true},
		{Name: "GranteePrincipal", Shape: shapePrincipalIdType},
		{Name: "RetiringPrincipal", Shape: shapePrincipalIdType},
		{Name: "Operations", Shape: shapeGrantOperationList, Required: true},
		{Name: "Constraints", Shape: shapeGrantConstraints},
		{Name: "GrantTokens", Shape: shapeGrantTokenList},
		{Name: "Name", Shape: shapeGrantNameType},
		{Name: "DryRun", Shape: shapeNullableBooleanType},
		{Name: "GranteeServicePrincipal", Shape: shapeServicePrincipalType},
		{Name: "RetiringServicePrincipal", Shape: shapeServicePrincipalType},
	},
	"CreateKey": {
		{Name: "Policy", Shape: shapePolicyType},
		{Name: "Description", Shape: shapeDescriptionType},
		{Name: "KeyUsage", Shape: shapeKeyUsageType},
		{Name: "CustomerMasterKeySpec", Shape: shapeCustomerMasterKeySpec},
		{Name: "KeySpec", Shape: shapeKeySpec},
		{Name: "Origin", Shape: shapeOriginType},
		{Name: "CustomKeyStoreId", Shape: shapeCustomKeyStoreIdType},
		{Name: "BypassPolicyLockoutSafetyCheck", Shape: shapeBooleanType},
		{Name: "Tags", Shape: shapeTagList},
		{Name: "MultiRegion", Shape: shapeNullableBooleanType},
		{Name: "XksKeyId", Shape: shapeXksKeyIdType},
	},
	"Decapsulate": {
		{Name: "KeyId", Shape: shapeKeyIdType, Required: true},
		{Name: "SharedSecretCiphertextBlob", Shape: shapeCiphertextType, Required: true},
		{Name: "EncapsulationAlgorithm", Shape: shapeEncapsulationAlgorithmSpec, Required: true},
		{Name: "GrantTokens", Shape: shapeGrantTokenList},
		{Name: "DryRun", Shape: shapeNullableBooleanType},
	},
	"Decrypt": {
		{Name: "CiphertextBlob", Shape: shapeCiphertextType},
		{Name: "EncryptionContext", Shape: shapeEncryptionContextType},
		{Name: "GrantTokens", Shape: shapeGrantTokenList},
		{Name: "KeyId", Shape: shapeKeyIdType},
		{Name: "EncryptionAlgorithm", Shape: shapeEncryptionAlgorithmSpec},
		{Name: "Recipient", Shape: shapeRecipientInfo},
		{Name: "DryRun", Shape: shapeNullableBooleanType},
		{Name: "DryRunModifiers", Shape: shapeDryRunModifierList},
	},
	"DeleteAlias": {
		{Name: "AliasName", Shape: shapeAliasNameType, Required: true},
	},
	"DeleteCustomKeyStore": {
		{Name: "CustomKeyStoreId", Shape: shapeCustomKeyStoreIdType, Required: true},
	},
	"DeleteImportedKeyMaterial": {
		{Name: "KeyId", Shape: shapeKeyIdType, Required: true},
		{Name: "KeyMaterialId", Shape: shapeBackingKeyIdType},
	},
	"DeriveSharedSecret": {
		{Name: "KeyId", Shape: shapeKeyIdType, Required: true},
		{Name: "KeyAgreementAlgorithm", Shape: shapeKeyAgreementAlgorithmSpec, Required: true},
		{Name: "PublicKey", Shape: shapePublicKeyType, Required: true},
		{Name: "GrantTokens", Shape: shapeGrantTokenList},
		{Name: "DryRun", Shape: shapeNullableBooleanType},
		{Name: "Recipient", Shape: shapeRecipientInfo},
	},
	"DescribeCustomKeyStores": {
		{Name: "CustomKeyStoreId", Shape: shapeCustomKeyStoreIdType},
		{Name: "CustomKeyStoreName", Shape: shapeCustomKeyStoreNameType},
		{Name: "Limit", Shape: shapeLimitType},
		{Name: "Marker", Shape: shapeMarkerType},
	},
	"DescribeKey": {
		{Name: "KeyId", Shape: shapeKeyIdType, Required: true},
		{Name: "GrantTokens", Shape: shapeGrantTokenList},
	},
	"DisableKey": {
		{Name: "KeyId", Shape: shapeKeyIdType, Required: true},
	},
	"DisableKeyRotation": {
		{Name: "KeyId", Shape: shapeKeyIdType, Required: true},
	},
	"DisconnectCustomKeyStore": {
		{Name: "CustomKeyStoreId", Shape: shapeCustomKeyStoreIdType, Required: true},
	},
	"EnableKey": {
		{Name: "KeyId", Shape: shapeKeyIdType, Required: true},
	},
	"EnableKeyRotation": {
		{Name: "KeyId", Shape: shapeKeyIdType, Required: true},
		{Name: "RotationPeriodInDays", Shape: shapeRotationPeriodInDaysType},
	},
	"Encapsulate": {
		{Name: "KeyId", Shape: shapeKeyIdType, Required: true},
		{Name: "EncapsulationAlgorithm", Shape: shapeEncapsulationAlgorithmSpec, Required: true},
		{Name: "GrantTokens", Shape: shapeGrantTokenList},
		{Name: "DryRun", Shape: shapeNullableBooleanType},
	},
	"Encrypt": {
		{Name: "KeyId", Shape: shapeKeyIdType, Required: true},
		{Name: "Plaintext", Shape: shapePlaintextType, Required: true},
		{Name: "EncryptionContext", Shape: shapeEncryptionContextType},
		{Name: "GrantTokens", Shape: shapeGrantTokenList},
		{Name: "EncryptionAlgorithm", Shape: shapeEncryptionAlgorithmSpec},
		{Name: "DryRun", Shape: shapeNullableBooleanType},
	},
	"GenerateDataKey": {
		{Name: "KeyId", Shape: shapeKeyIdType, Required: true},
		{Name: "EncryptionContext", Shape: shapeEncryptionContextType},
		{Name: "NumberOfBytes", Shape: shapeNumberOfBytesType},
		{Name: "KeySpec", Shape: shapeDataKeySpec},
		{Name: "GrantTokens", Shape: shapeGrantTokenList},
		{Name: "Recipient", Shape: shapeRecipientInfo},
		{Name: "DryRun", Shape: shapeNullableBooleanType},
	},
	"GenerateDataKeyPair": {
		{Name: "EncryptionContext", Shape: shapeEncryptionContextType},
		{Name: "KeyId", Shape: shapeKeyIdType, Required: true},
		{Name: "KeyPairSpec", Shape: shapeDataKeyPairSpec, Required: true},
		{Name: "GrantTokens", Shape: shapeGrantTokenList},
		{Name: "Recipient", Shape: shapeRecipientInfo},
		{Name: "DryRun", Shape: shapeNullableBooleanType},
	},
	"GenerateDataKeyPairWithoutPlaintext": {
		{Name: "EncryptionContext", Shape: shapeEncryptionContextType},
		{Name: "KeyId", Shape: shapeKeyIdType, Required: true},
		{Name: "KeyPairSpec", Shape: shapeDataKeyPairSpec, Required: true},
		{Name: "GrantTokens", Shape: shapeGrantTokenList},
		{Name: "DryRun", Shape: shapeNullableBooleanType},
	},
	"GenerateDataKeyWithoutPlaintext": {
		{Name: "KeyId", Shape: shapeKeyIdType, Required: true},
		{Name: "EncryptionContext", Shape: shapeEncryptionContextType},
		{Name: "KeySpec", Shape: shapeDataKeySpec},
		{Name: "NumberOfBytes", Shape: shapeNumberOfBytesType},
		{Name: "GrantTokens", Shape: shapeGrantTokenList},
		{Name: "DryRun", Shape: shapeNullableBooleanType},
	},
	"GenerateMac": {
		{Name: "Message", Shape: shapePlaintextType, Required: true},
		{Name: "KeyId", Shape: shapeKeyIdType, Required: true},
		{Name: "MacAlgorithm", Shape: shapeMacAlgorithmSpec, Required: true},
		{Name: "GrantTokens", Shape: shapeGrantTokenList},
		{Name: "DryRun", Shape: shapeNullableBooleanType},
	},
	"GenerateRandom": {
		{Name: "NumberOfBytes", Shape: shapeNumberOfBytesType},
		{Name: "CustomKeyStoreId", Shape: shapeCustomKeyStoreIdType},
		{Name: "Recipient", Shape: shapeRecipientInfo},
	},
	"GetKeyLastUsage": {
		{Name: "KeyId", Shape: shapeKeyIdType, Required: true},
	},
	"GetKeyPolicy": {
		{Name: "KeyId", Shape: shapeKeyIdType, Required: true},
		{Name: "PolicyName", Shape: shapePolicyNameType},
	},
	"GetKeyRotationStatus": {
		{Name: "KeyId", Shape: shapeKeyIdType, Required: true},
	},
	"GetParametersForImport": {
		{Name: "KeyId", Shape: shapeKeyIdType, Required: true},
		{Name: "WrappingAlgorithm", Shape: shapeAlgorithmSpec, Required: true},
		{Name: "WrappingKeySpec", Shape: shapeWrappingKeySpec, Required: true},
	},
	"GetPublicKey": {
		{Name: "KeyId", Shape: shapeKeyIdType, Required: true},
		{Name: "GrantTokens", Shape: shapeGrantTokenList},
	},
	"ImportKeyMaterial": {
		{Name: "KeyId", Shape: shapeKeyIdType, Required: true},
		{Name: "ImportToken", Shape: shapeCiphertextType, Required: true},
		{Name: "EncryptedKeyMaterial", Shape: shapeCiphertextType, Required: true},
		{Name: "ValidTo", Shape: shapeDateType},
		{Name: "ExpirationModel", Shape: shapeExpirationModelType},
		{Name: "ImportType", Shape: shapeImportType},
		{Name: "KeyMaterialDescription", Shape: shapeKeyMaterialDescriptionType},
		{Name: "KeyMaterialId", Shape: shapeBackingKeyIdType},
	},
	"ListAliases": {
		{Name: "KeyId", Shape: shapeKeyIdType},
		{Name: "Limit", Shape: shapeLimitType},
		{Name: "Marker", Shape: shapeMarkerType},
	},
	"ListGrants": {
		{Name: "Limit", Shape: shapeLimitType},
		{Name: "Marker", Shape: shapeMarkerType},
		{Name: "KeyId", Shape: shapeKeyIdType, Required: true},
		{Name: "GrantId", Shape: shapeGrantIdType},
		{Name: "GranteePrincipal", Shape: shapePrincipalIdType},
		{Name: "GranteeServicePrincipal", Shape: shapeServicePrincipalType},
	},
	"ListKeyPolicies": {
		{Name: "KeyId", Shape: shapeKeyIdType, Required: true},
		{Name: "Limit", Shape: shapeLimitType},
		{Name: "Marker", Shape: shapeMarkerType},
	},
	"ListKeyRotations": {
		{Name: "KeyId", Shape: shapeKeyIdType, Required: true},
		{Name: "IncludeKeyMaterial", Shape: shapeIncludeKeyMaterial},
		{Name: "Limit", Shape: shapeLimitType},
		{Name: "Marker", Shape: shapeMarkerType},
	},
	"ListKeys": {
		{Name: "Limit", Shape: shapeLimitType},
		{Name: "Marker", Shape: shapeMarkerType},
	},
	"ListResourceTags": {
		{Name: "KeyId", Shape: shapeKeyIdType, Required: true},
		{Name: "Limit", Shape: shapeLimitType},
		{Name: "Marker", Shape: shapeMarkerType},
	},
	"ListRetirableGrants": {
		{Name: "Limit", Shape: shapeLimitType},
		{Name: "Marker", Shape: shapeMarkerType},
		{Name: "RetiringPrincipal", Shape: shapePrincipalIdType},
		{Name: "RetiringServicePrincipal", Shape: shapeServicePrincipalType},
	},
	"PutKeyPolicy": {
		{Name: "KeyId", Shape: shapeKeyIdType, Required: true},
		{Name: "PolicyName", Shape: shapePolicyNameType},
		{Name: "Policy", Shape: shapePolicyType, Required: true},
		{Name: "BypassPolicyLockoutSafetyCheck", Shape: shapeBooleanType},
	},
	"ReEncrypt": {
		{Name: "CiphertextBlob", Shape: shapeCiphertextType},
		{Name: "SourceEncryptionContext", Shape: shapeEncryptionContextType},
		{Name: "SourceKeyId", Shape: shapeKeyIdType},
		{Name: "DestinationKeyId", Shape: shapeKeyIdType, Required: true},
		{Name: "DestinationEncryptionContext", Shape: shapeEncryptionContextType},
		{Name: "SourceEncryptionAlgorithm", Shape: shapeEncryptionAlgorithmSpec},
		{Name: "DestinationEncryptionAlgorithm", Shape: shapeEncryptionAlgorithmSpec},
		{Name: "GrantTokens", Shape: shapeGrantTokenList},
		{Name: "DryRun", Shape: shapeNullableBooleanType},
		{Name: "DryRunModifiers", Shape: shapeDryRunModifierList},
	},
	"ReplicateKey": {
		{Name: "KeyId", Shape: shapeKeyIdType, Required: true},
		{Name: "ReplicaRegion", Shape: shapeRegionType, Required: true},
		{Name: "Policy", Shape: shapePolicyType},
		{Name: "BypassPolicyLockoutSafetyCheck", Shape: shapeBooleanType},
		{Name: "Description", Shape: shapeDescriptionType},
		{Name: "Tags", Shape: shapeTagList},
	},
	"RetireGrant": {
		{Name: "GrantToken", Shape: shapeGrantTokenType},
		{Name: "KeyId", Shape: shapeKeyIdType},
		{Name: "GrantId", Shape: shapeGrantIdType},
		{Name: "DryRun", Shape: shapeNullableBooleanType},
	},
	"RevokeGrant": {
		{Name: "KeyId", Shape: shapeKeyIdType, Required: true},
		{Name: "GrantId", Shape: shapeGrantIdType, Required: true},
		{Name: "DryRun", Shape: shapeNullableBooleanType},
	},
	"RotateKeyOnDemand": {
		{Name: "KeyId", Shape: shapeKeyIdType, Required: true},
	},
	"ScheduleKeyDeletion": {
		{Name: "KeyId", Shape: shapeKeyIdType, Required: true},
		{Name: "PendingWindowInDays", Shape: shapePendingWindowInDaysType},
	},
	"Sign": {
		{Name: "KeyId", Shape: shapeKeyIdType, Required: true},
		{Name: "Message", Shape: shapePlaintextType, Required: true},
		{Name: "MessageType", Shape: shapeMessageType},
		{Name: "GrantTokens", Shape: shapeGrantTokenList},
		{Name: "SigningAlgorithm", Shape: shapeSigningAlgorithmSpec, Required: true},
		{Name: "DryRun", Shape: shapeNullableBooleanType},
	},
	"TagResource": {
		{Name: "KeyId", Shape: shapeKeyIdType, Required: true},
		{Name: "Tags", Shape: shapeTagList, Required: true},
	},
	"UntagResource": {
		{Name: "KeyId", Shape: shapeKeyIdType, Required: true},
		{Name: "TagKeys", Shape: shapeTagKeyList, Required: true},
	},
	"UpdateAlias": {
		{Name: "AliasName", Shape: shapeAliasNameType, Required: true},
		{Name: "TargetKeyId", Shape: shapeKeyIdType, Required: true},
	},
	"UpdateCustomKeyStore": {
		{Name: "CustomKeyStoreId", Shape: shapeCustomKeyStoreIdType, Required: true},
		{Name: "NewCustomKeyStoreName", Shape: shapeCustomKeyStoreNameType},
		{Name: "KeyStorePassword", Shape: shapeKeyStorePasswordType},
		{Name: "CloudHsmClusterId", Shape: shapeCloudHsmClusterIdType},
		{Name: "XksProxyUriEndpoint", Shape: shapeXksProxyUriEndpointType},
		{Name: "XksProxyUriPath", Shape: shapeXksProxyUriPathType},
		{Name: "XksProxyVpcEndpointServiceName", Shape: shapeXksProxyVpcEndpointServiceNameType},
		{Name: "XksProxyVpcEndpointServiceOwner", Shape: shapeAccountIdType},
		{Name: "XksProxyAuthenticationCredential", Shape: shapeXksProxyAuthenticationCredentialType},
		{Name: "XksProxyConnectivity", Shape: shapeXksProxyConnectivityType},
	},
	"UpdateKeyDescription": {
		{Name: "KeyId", Shape: shapeKeyIdType, Required: true},
		{Name: "Description", Shape: shapeDescriptionType, Required: true},
	},
	"UpdatePrimaryRegion": {
		{Name: "KeyId", Shape: shapeKeyIdType, Required: true},
		{Name: "PrimaryRegion", Shape: shapeRegionType, Required: true},
	},
	"Verify": {
		{Name: "KeyId", Shape: shapeKeyIdType, Required: true},
		{Name: "Message", Shape: shapePlaintextType, Required: true},
		{Name: "MessageType", Shape: shapeMessageType},
		{Name: "Signature", Shape: shapeCiphertextType, Required: true},
		{Name: "SigningAlgorithm", Shape: shapeSigningAlgorithmSpec, Required: true},
		{Name: "GrantTokens", Shape: shapeGrantTokenList},
		{Name: "DryRun", Shape: shapeNullableBooleanType},
	},
	"VerifyMac": {
		{Name: "Message", Shape: shapePlaintextType, Required: true},
		{Name: "KeyId", Shape: shapeKeyIdType, Required: true},
		{Name: "MacAlgorithm", Shape: shapeMacAlgorithmSpec, Required: true},
		{Name: "Mac", Shape: shapeCiphertextType, Required: true},
		{Name: "GrantTokens", Shape: shapeGrantTokenList},
		{Name: "DryRun", Shape: shapeNullableBooleanType},
	},
}
